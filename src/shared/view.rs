//! Elements as arrays of several dimensions, which are those of the crate `ndarray`.

use bytemuck::Pod;
use ndarray::{ArrayView, ArrayViewMut, Dimension, ErrorKind, ShapeError, StrideShape};

use super::{SharedSlice, ValueGuard};

/// With the feature `ndarray`.
impl<T: Pod> ValueGuard<[T]> {
    /// Returns the elements as an array of several dimensions, in place; row by row, unless the shape
    /// [says otherwise](ndarray::ShapeBuilder).
    ///
    /// # Errors
    ///
    /// When the shape is not one of so many elements.
    ///
    /// # Panics
    ///
    /// As to look into the [guard](Self).
    ///
    /// ```
    /// use procpool::{Array, ProcessPool};
    ///
    /// /// Halves what is in the last row.
    /// fn halve(matrix: Array<f64>) {
    ///     let mut guard = matrix.blocking_lock(None).expect("nobody dies here");
    ///     let mut matrix = guard.view_mut((2, 3)).expect("it has six elements");
    ///     matrix.row_mut(1).mapv_inplace(|x| x / 2.0);
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = ProcessPool::builder().workers(1).build()?;
    /// let matrix = Array::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    /// pool.submit(halve, matrix.clone()).await?;
    /// let guard = matrix.lock().await?;
    /// assert_eq!(guard.view((2, 3))?.column(1).to_vec(), [2.0, 2.5]);
    /// # drop(guard);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn view<S, D>(&self, shape: S) -> Result<ArrayView<'_, T, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension,
    {
        let view = ArrayView::from_shape(shape, self)?;
        of_all(view.len(), self.len()).map(|()| view)
    }

    /// The same, to be changed.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    ///
    /// # Panics
    ///
    /// As [`view`](Self::view).
    pub fn view_mut<S, D>(&mut self, shape: S) -> Result<ArrayViewMut<'_, T, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension,
    {
        let length = self.len();
        let view = ArrayViewMut::from_shape(shape, self)?;
        of_all(view.len(), length).map(|()| view)
    }
}

/// With the feature `ndarray`.
impl<T: Pod> SharedSlice<T> {
    /// Returns the elements as an array of several dimensions, in place; row by row, unless the shape
    /// [says otherwise](ndarray::ShapeBuilder).
    ///
    /// # Errors
    ///
    /// When the shape is not one of so many elements.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let table = procpool::SharedSlice::from_fn(6, |n| n as u32)?;
    /// assert_eq!(table.view((2, 3))?[[1, 2]], 5);
    /// assert!(table.view((2, 2)).is_err());
    /// # Ok(()) }
    /// ```
    pub fn view<S, D>(&self, shape: S) -> Result<ArrayView<'_, T, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension,
    {
        let view = ArrayView::from_shape(shape, self)?;
        of_all(view.len(), self.len()).map(|()| view)
    }
}

/// A view of fewer elements than there are is taken for a mistake.
fn of_all(seen: usize, there: usize) -> Result<(), ShapeError> {
    match seen == there {
        true => Ok(()),
        false => Err(ShapeError::from_kind(ErrorKind::IncompatibleShape)),
    }
}
