//! Waiting for less than the millisecond that a poll counts in, so that a benchmark's load keeps its times.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

#[cfg(target_os = "linux")]
pub(crate) use precise::Timer;

/// Where the system has no such timer, waiting is rounded up to a millisecond.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(crate) fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn arm(&self, wait: Duration) -> io::Result<Duration> {
        Ok(wait)
    }
}

#[cfg(target_os = "linux")]
mod precise {
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use mio::Interest;
    use mio::unix::SourceFd;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    use super::{Duration, Registry, Token, io};

    /// From here on milliseconds are precise enough.
    const COARSE_FROM: Duration = Duration::from_millis(10);
    /// A poll that ends with the timer must not end before it.
    const MARGIN: Duration = Duration::from_millis(20);

    /// A timer among the sockets that are polled.
    pub(crate) struct Timer {
        timer: OwnedFd,
    }

    impl Timer {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self { timer })
        }

        /// Has the poll end after `wait`; with which timeout to poll.
        pub(crate) fn arm(&self, wait: Duration) -> io::Result<Duration> {
            if wait.is_zero() || wait >= COARSE_FROM {
                return Ok(wait);
            }
            let time = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() },
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
            Ok(wait + MARGIN)
        }
    }
}
