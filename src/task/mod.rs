//! What both ends agree on: what a call is and how it is encoded.
