//! Spreads calls over several HTTP clients. Over HTTP/2 one client holds one connection to a
//! server, and calls beyond the server's limit of streams would queue inside it, unseen and with
//! their timeout running.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::{Client, ClientBuilder};

use crate::provider::openai::client::{self, ProviderError};

/// Calls in flight at which the next one takes another client: below 100, the limit of streams
/// that RFC 9113 (6.5.2) asks servers not to go below and that most have. Measured against Node 20
/// with that limit, 200 calls of 0.3 s side by side: 100 in flight and twice the time with one
/// client, 200 in flight with these. One broken connection also takes fewer calls with it.
const FULL: usize = 64;

/// The clients, the first one made at once and the others when they are needed.
pub(super) struct Lanes {
    /// Held only to pick a lane or to add one; never across an await.
    lanes: Mutex<Vec<Arc<Lane>>>,
    blueprint: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
}

#[derive(Debug)]
struct Lane {
    client: Client,
    in_flight: AtomicUsize,
}

/// One call's place in a lane; leaves it when dropped.
pub(super) struct Place(Arc<Lane>);

impl Lanes {
    /// Makes the first client, so that TLS that cannot be set up is an error now.
    pub(super) fn open(
        blueprint: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, ProviderError> {
        let first = Lane::new(client::build(blueprint())?);
        Ok(Self {
            lanes: Mutex::new(vec![Arc::new(first)]),
            blueprint: Box::new(blueprint),
        })
    }

    /// Takes a place in the first lane with room, so that few calls share few connections.
    pub(super) fn enter(&self) -> Place {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.iter().find(|lane| lane.load() < FULL) {
            return Place::in_lane(lane);
        }
        // A client like the first one; should it fail all the same, an existing one does.
        if let Ok(client) = client::build((self.blueprint)()) {
            lanes.push(Arc::new(Lane::new(client)));
        }
        let emptiest = lanes.iter().min_by_key(|lane| lane.load());
        Place::in_lane(emptiest.expect("BUG: there is always the first lane"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lock().iter()).finish()
    }
}

impl Lane {
    fn new(client: Client) -> Self {
        Self {
            client,
            in_flight: AtomicUsize::new(0),
        }
    }

    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Place {
    fn in_lane(lane: &Arc<Lane>) -> Self {
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(lane))
    }

    /// The client to call with.
    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        client::install_ring();
        Lanes::open(Client::builder).unwrap()
    }

    #[test]
    fn a_new_lane_opens_only_when_the_first_is_full() {
        let lanes = lanes();
        let mut places: Vec<Place> = (0..FULL).map(|_| lanes.enter()).collect();
        assert_eq!(lanes.lock().len(), 1);
        places.push(lanes.enter());
        assert_eq!(lanes.lock().len(), 2);
        assert_eq!(lanes.lock()[1].load(), 1);
    }

    #[test]
    fn a_place_that_is_left_is_taken_again() {
        let lanes = lanes();
        let places: Vec<Place> = (0..FULL + 1).map(|_| lanes.enter()).collect();
        drop(places);
        let _place = lanes.enter();
        assert_eq!(
            lanes.lock().iter().map(|lane| lane.load()).collect::<Vec<_>>(),
            [1, 0]
        );
    }
}
