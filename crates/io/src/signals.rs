//! SIGTERM and SIGINT: what they ask for is kept from the moment they are installed.
//!
//! They are to be installed before a port is bound: whoever sees the port open may ask for a stop in good order.

use std::io;

use dohle_broker::host::Input;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::mailbox::Mailbox;

/// The requests to stop that have come, and will.
#[derive(Debug)]
pub struct StopSignals(Signals);

impl StopSignals {
    /// From here on the signals do not end the process, but wait to be passed on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn install() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT]).map(Self)
    }

    /// Turns the first one into a stop in good order; the second one ends the process at once.
    pub(crate) fn pass_on(mut self, mailbox: Mailbox) -> io::Result<()> {
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut asked = false;
            for signal in self.0.forever() {
                if asked {
                    std::process::exit(128 + signal);
                }
                asked = true;
                mailbox.post([Input::Stop]);
            }
        })?;
        Ok(())
    }
}
