//! The child's side: how a process becomes a worker, and the serving loop.
