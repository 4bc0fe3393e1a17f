//! What the loop does when memory is short: connections wait for their turn, and those who hold memory must move.

use std::time::Duration;

use dohle_broker::memory::Share;
use dohle_types::Now;

use super::EventLoop;
use crate::net::stats::Ended;
use crate::net::stream::Stream;

/// How often it is looked whether connections move what they hold memory for, while others wait for it.
const PACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Connections with small requests that are looked at again in one round.
const SMALL_PER_ROUND: usize = 64;

impl EventLoop {
    /// Has connections read from that waited for memory, as far as there is some.
    pub(super) fn let_in(&mut self, now: Now) {
        while let Some((number, bytes)) = self.intake.next_large(self.node.memory_mut()) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.waits = false;
                stream.admit(bytes, now.instant);
                self.touched.push(number);
            }
        }
        for _ in 0..SMALL_PER_ROUND {
            let Some(number) = self.intake.next_small(self.node.memory()) else { break };
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.waits = false;
                self.touched.push(number);
            }
        }
    }

    pub(super) fn is_short_of_memory(&self) -> bool {
        self.intake.is_waited_for() || self.node.waits_for_answers()
    }

    /// While some wait for memory, closes those who hold it and do not move what they hold it for, one by one from
    /// the one that has stalled for longest.
    pub(super) fn close_stalled(&mut self, now: Now) {
        if !self.is_short_of_memory() || now.instant < self.next_pace_check {
            return;
        }
        self.next_pace_check = now.instant + PACE_CHECK_INTERVAL;
        let requests_wait = self.intake.is_waited_for();
        let answers_wait = self.node.waits_for_answers();
        let stalled_since = |stream: &mut Stream| {
            // One that is paused would send if it were read from.
            let holds_request =
                requests_wait && !stream.paused && Share::of_request(stream.admitted) == Share::LargeRequests;
            let holds = holds_request || answers_wait && stream.queued_bytes() > 0;
            if holds { stream.pace.stalled_since(now.instant) } else { None }
        };
        let mut stalled: Vec<(Duration, u64)> = self
            .streams
            .iter_mut()
            .filter_map(|(&number, stream)| Some((stalled_since(stream)?, number)))
            .collect();
        stalled.sort_unstable();
        for (_, number) in stalled {
            if !self.is_short_of_memory() {
                return;
            }
            if let Some(Stream { peer_ip, admitted, .. }) = self.streams.get(&number) {
                let reason = "others wait for the memory that it holds, and it moves too little";
                tracing::warn!(peer = %peer_ip, unfinished_request = admitted, reason, "connection closed");
            }
            self.close(now, number, Ended::Stalled);
            self.tell_sent(now);
            self.let_in(now);
        }
    }
}
