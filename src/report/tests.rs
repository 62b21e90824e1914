//! What people and programs see of whole runs, and what happens when they stop looking.

mod json;
mod log;
mod screen;
mod sinks;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::unbounded_channel;

use crate::events::{Stamped, Tally};
use crate::report::{Sink, run};

/// Runs a report over events that have all happened, in virtual time.
fn report(events: Vec<Stamped>, sinks: Vec<Box<dyn Sink>>) -> Tally {
    let (sender, receiver) = unbounded_channel();
    for stamped in events {
        sender.send(stamped).unwrap();
    }
    drop(sender);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(run(receiver, sinks))
}

/// A place to write to that can be read afterwards.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
