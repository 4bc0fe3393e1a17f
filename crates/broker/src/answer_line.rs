//! Fetches that wait because answers have used up their share of the memory.
//!
//! They are let in in the order in which they came, as answers are sent. Each gets a part of what is free and at least
//! one batch, so that many of them share what there is and all of them get on. One that has waited longer than its
//! client wants to, and than [`PATIENCE`], is answered with what there is, which may be nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::handlers::k01_fetch;
use crate::memory::Share;
use crate::node::Node;
use crate::purgatory::ParkedId;

/// How long a fetch keeps its place, even if its own wait ends before; well below what clients wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The most of what is free that one fetch gets is this part of it.
const PART: usize = 8;

/// The fetches that wait, in their order. Some may have been answered or dropped since.
#[derive(Debug, Default)]
pub(crate) struct AnswerLine(VecDeque<ParkedId>);

impl AnswerLine {
    /// How many wait; some may have been answered or dropped since.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Node {
    /// How many bytes a fetch may have that holds so many already; `None` where it has to wait in line.
    pub(crate) fn answer_room(&self, held: usize) -> Option<usize> {
        let room = self.memory.room(Share::Answers) + held;
        (room > 0).then_some(room.div_ceil(PART))
    }

    /// Whether a fetch that comes now has to go to the end of the line.
    pub(crate) fn must_stand_in_line(&self) -> bool {
        !self.answer_line.0.is_empty() || self.memory.room(Share::Answers) == 0
    }

    /// A fetch waits, after all that wait already.
    pub(crate) fn stand_in_line(&mut self, id: ParkedId) {
        self.memory.note_shortage(Share::Answers);
        self.answer_line.0.push_back(id);
    }

    /// Lets in those for whom there is room.
    pub(crate) fn serve_answer_line(&mut self) {
        while self.memory.room(Share::Answers) > 0
            && let Some(id) = self.answer_line.0.pop_front()
        {
            k01_fetch::on_turn(self, id);
        }
    }

    /// Whether fetches wait for answers to be sent.
    #[must_use]
    pub fn waits_for_answers(&self) -> bool {
        !self.answer_line.0.is_empty()
    }
}
