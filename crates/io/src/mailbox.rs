//! How the other threads tell the loop something: a queue and a waker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dohle_broker::Input;
use mio::Waker;

/// The sending side, held by the commit thread, the job pool and the signal thread.
#[derive(Debug, Clone)]
pub struct Mailbox {
    inputs: Sender<Input>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox that wakes its loop by `waker`, and the loop's side of it.
    #[must_use]
    pub fn new(waker: Waker) -> (Self, Receiver<Input>) {
        let (inputs, receiver) = channel();
        (Self { inputs, waker: Arc::new(waker) }, receiver)
    }

    /// Posts inputs with one wake-up.
    pub fn post(&self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            // The loop outlives its senders but for the last moments of the process.
            let _ = self.inputs.send(input);
        }
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the event loop cannot be woken");
        }
    }
}
