//! How much of requests' bodies this process holds at once: small ones always pass, larger ones share a budget, so that no number of callers can
//! make it outgrow its container. It knows no HTTP status.

use std::{pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest body of a request, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// What any body may have without asking: as much as a connection's buffers hold anyway.
const SMALL: usize = 16 * 1024;
/// Bytes beyond that which all bodies together may have. As JSON they take a multiple of it.
const BUDGET: usize = 4 * MAX_BODY;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Intake(Arc<Semaphore>);

/// A body's share of the budget, for as long as anything of it is held.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntakeError {
    /// It has more than [`MAX_BODY`] bytes.
    TooLarge,
    /// Others hold so much that there is no room for it.
    Full,
    /// It ended early.
    Broken,
}

impl Intake {
    /// An intake that holds nothing yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }

    /// Reads a body; its share goes back when it is dropped.
    ///
    /// # Errors
    /// See [`IntakeError`].
    pub(crate) async fn read<B: Body<Data = Bytes>>(
        &self,
        body: B,
    ) -> Result<(Bytes, Share), IntakeError> {
        let mut body = pin!(body);
        let (mut bytes, mut share) = (BytesMut::new(), Share::default());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| IntakeError::Broken)?.into_data() else {
                continue;
            };
            let total = bytes.len() + data.len();
            if total > MAX_BODY {
                return Err(IntakeError::TooLarge);
            }
            self.grow(&mut share, total.saturating_sub(SMALL))?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), share))
    }

    fn grow(&self, share: &mut Share, to: usize) -> Result<(), IntakeError> {
        let held = share
            .0
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(to.saturating_sub(held)).map_err(|_| IntakeError::TooLarge)?;
        if more == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(more)
            .map_err(|_| IntakeError::Full)?;
        match &mut share.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read(intake: &Intake, size: usize) -> Result<Share, IntakeError> {
        let body = Full::new(Bytes::from(vec![b'x'; size]));
        let (bytes, share) = intake.read(body).await?;
        assert_eq!(bytes.len(), size);
        Ok(share)
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_small_ones_always_pass() {
        let intake = Intake::new();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(read(&intake, MAX_BODY).await.unwrap());
        }
        let refused = read(&intake, MAX_BODY).await.unwrap_err();
        assert_eq!(refused, IntakeError::Full);
        for _ in 0..1000 {
            held.push(read(&intake, SMALL).await.unwrap());
        }
        held.remove(0);
        held.push(read(&intake, MAX_BODY).await.unwrap());
        assert!(read(&intake, MAX_BODY).await.is_err());
        drop(held);
        assert_eq!(intake.0.available_permits(), BUDGET);
        let too_large = read(&intake, MAX_BODY + 1).await.unwrap_err();
        assert_eq!(too_large, IntakeError::TooLarge);
    }
}
