//! Tells whoever handed in an entry what became of it: exactly once, also where the store ends
//! before it could say so.

use tokio::sync::oneshot;

use crate::store::StoreError;

type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What is called with the fate of entries. Dropped uncalled, it tells of a store that stopped.
pub struct Done(Option<Tell>);

impl Done {
    /// Calls `tell`, which must not block.
    pub fn new(tell: impl FnOnce(Result<(), StoreError>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// One to hand in, and one to wait for.
    pub(super) fn wait() -> (Self, impl Future<Output = Result<(), StoreError>> + Send) {
        let (sender, told) = oneshot::channel();
        // Whoever gave up waiting is not told.
        let done = Self::new(move |result| _ = sender.send(result));
        (
            done,
            async move { told.await.unwrap_or(Err(StoreError::Stopped)) },
        )
    }

    /// Tells.
    pub fn tell(mut self, result: Result<(), StoreError>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(StoreError::Stopped));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_tells_once_also_when_dropped() {
        let (done, told) = Done::wait();
        done.tell(Ok(()));
        assert!(told.await.is_ok());
        let (done, told) = Done::wait();
        drop(done);
        assert!(matches!(told.await, Err(StoreError::Stopped)));
    }
}
