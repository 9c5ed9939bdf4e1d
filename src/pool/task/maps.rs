//! The ways of a task over many items, which a pool of threads has as well.

/// They differ in their types alone; `map_over` is the type's own.
macro_rules! map_verbs {
    ($pool:literal, $map:ident, $map_iter:ident) => {
        #[doc = concat!("Runs the function over many items. See [`", $pool, "::map`](crate::", $pool, "::map).")]
        pub fn map<I>(&self, items: I) -> $map_iter<I::IntoIter, R>
        where
            I: IntoIterator<Item = A>,
        {
            self.map_iter(items, true)
        }

        /// Runs the function over many items, results in the order in which they come. See
        #[doc = concat!("[`", $pool, "::map_unordered`](crate::", $pool, "::map_unordered).")]
        pub fn map_unordered<I>(&self, items: I) -> $map_iter<I::IntoIter, R>
        where
            I: IntoIterator<Item = A>,
        {
            self.map_iter(items, false)
        }

        /// Runs the function over a stream of items. See
        #[doc = concat!("[`", $pool, "::map_stream`](crate::", $pool, "::map_stream).")]
        pub fn map_stream<S: Stream<Item = A>>(&self, items: S) -> $map<S, R> {
            self.map_over(items, true)
        }

        /// Runs the function over a stream of items, results in the order in which they come.
        pub fn map_stream_unordered<S: Stream<Item = A>>(&self, items: S) -> $map<S, R> {
            self.map_over(items, false)
        }

        fn map_iter<I>(&self, items: I, ordered: bool) -> $map_iter<I::IntoIter, R>
        where
            I: IntoIterator<Item = A>,
        {
            let mut map = self.map_over(stream::iter(items), ordered);
            // An iterator has its items ready, so the work starts here and now.
            Pin::new(&mut map).take(&mut Context::from_waker(Waker::noop()));
            map
        }
    };
}
pub(crate) use map_verbs;
