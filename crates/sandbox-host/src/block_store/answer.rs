//! `BlockStoreAnswer`, checked against what was asked.

use std::ops::Range;

use blockcow::{BlockChunk, StoreError};
use protocol::v1;
use protocol::v1::block_store_answer::Answer;

use crate::callback::{Gather, Taken};
use crate::limits::{BLOCK_RUNS_HELD, BLOCKS_PER_PIECE};

/// Most of a sentence of the client that is kept.
const ERROR_BYTES: usize = 1024;

/// What a question is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// That it is done.
    Done,
    /// Numbers of blocks.
    Numbers,
    /// At most so many bytes of blocks.
    Chunks(usize),
}

/// An answer of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Expected")]
pub enum Reply {
    Done,
    Numbers(Vec<Range<u64>>),
    Chunks(Vec<BlockChunk>),
}

/// How a question ends.
pub type Outcome = Result<Reply, StoreError>;

/// The answer to one question, as far as it has come. Of a list, runs of numbers are held.
#[derive(Debug)]
pub struct Gathering {
    expected: Expected,
    runs: Vec<Range<u64>>,
}

impl Gathering {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        Self { expected, runs: Vec::new() }
    }

    fn gather(&mut self, piece: v1::BlockNumbers) -> Option<Outcome> {
        if piece.blocks.len() > BLOCKS_PER_PIECE {
            return Some(wrong(format!("A list has a piece of {} numbers", piece.blocks.len())));
        }
        for block in piece.blocks {
            let Some(next) = block.checked_add(1) else {
                return Some(wrong(format!("There is no block {block}")));
            };
            match self.runs.last_mut() {
                Some(run) if run.end == block => run.end = next,
                _ => self.runs.push(block..next),
            }
        }
        if self.runs.len() > BLOCK_RUNS_HELD {
            return Some(too_many_runs());
        }
        (!piece.more).then(|| Ok(Reply::Numbers(std::mem::take(&mut self.runs))))
    }
}

impl Gather for Gathering {
    type Answer = v1::BlockStoreAnswer;
    type Outcome = Outcome;

    fn held(&self) -> usize {
        self.runs.len()
    }

    fn clear(&mut self) {
        self.runs = Vec::new();
    }

    fn take(&mut self, answer: v1::BlockStoreAnswer) -> Taken<Outcome> {
        let more = has_more(&answer);
        let outcome = match (answer.answer, self.expected) {
            (Some(Answer::Error(text)), _) => {
                let text = text[..text.floor_char_boundary(ERROR_BYTES)].to_owned();
                Some(Err(StoreError::Rejected(text)))
            }
            (Some(Answer::Done(_)), Expected::Done) => Some(Ok(Reply::Done)),
            (Some(Answer::Numbers(piece)), Expected::Numbers) => self.gather(piece),
            (Some(Answer::Chunks(found)), Expected::Chunks(most)) => Some(chunks(found, most)),
            (Some(_), expected) => {
                Some(wrong(format!("It gave an answer of another kind than {expected:?}")))
            }
            (None, _) => Some(wrong("It gave an empty answer".to_owned())),
        };
        if outcome.is_some() {
            self.clear();
        }
        Taken { outcome, more }
    }
}

/// Whether pieces follow.
pub(super) fn has_more(answer: &v1::BlockStoreAnswer) -> bool {
    matches!(&answer.answer, Some(Answer::Numbers(piece)) if piece.more)
}

/// What becomes of a list that is too long to be held.
pub(super) fn too_many_runs() -> Outcome {
    wrong(format!("A list has more than {BLOCK_RUNS_HELD} runs of blocks"))
}

fn wrong(what: String) -> Outcome {
    Err(StoreError::Rejected(what))
}

/// Whether they are the right blocks is looked at in `blockcow`.
fn chunks(found: v1::BlockChunks, most: usize) -> Outcome {
    let length: usize = found.chunks.iter().map(|chunk| chunk.data.len()).sum();
    if length > most {
        return wrong(format!("It gave {length} bytes where {most} were asked for"));
    }
    let chunk = |chunk: v1::BlockChunk| BlockChunk { start: chunk.start, data: chunk.data };
    Ok(Reply::Chunks(found.chunks.into_iter().map(chunk).collect()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn take(expected: Expected, answers: Vec<Answer>) -> Vec<Option<Outcome>> {
        let mut gathering = Gathering::new(expected);
        let of = |answer| v1::BlockStoreAnswer { id: 1, answer: Some(answer) };
        answers.into_iter().map(|answer| gathering.take(of(answer)).outcome).collect()
    }

    fn numbers(blocks: &[u64], more: bool) -> Answer {
        Answer::Numbers(v1::BlockNumbers { blocks: blocks.to_vec(), more })
    }

    fn is_wrong(outcomes: &[Option<Outcome>]) -> bool {
        matches!(outcomes.last(), Some(Some(Err(StoreError::Rejected(_)))))
    }

    #[test]
    fn list_in_pieces_becomes_runs() {
        let pieces = vec![numbers(&[7, 8], true), numbers(&[9, 3], false)];
        let outcomes = take(Expected::Numbers, pieces);
        assert!(outcomes[0].is_none());
        let Some(Ok(Reply::Numbers(runs))) = &outcomes[1] else { panic!("no list") };
        assert_eq!(runs, &[7..10, 3..4]);
    }

    #[test]
    fn answers_that_cannot_be_are_rejections() {
        assert!(is_wrong(&take(Expected::Done, vec![numbers(&[1], false)])));
        assert!(is_wrong(&take(Expected::Numbers, vec![numbers(&[u64::MAX], false)])));
        let long = vec![0; BLOCKS_PER_PIECE + 1];
        assert!(is_wrong(&take(Expected::Numbers, vec![numbers(&long, false)])));
        let data = Bytes::from(vec![0; 1024]);
        let chunks = v1::BlockChunks { chunks: vec![v1::BlockChunk { start: 0, data }] };
        assert!(is_wrong(&take(Expected::Chunks(512), vec![Answer::Chunks(chunks)])));
        assert!(is_wrong(&take(Expected::Done, vec![Answer::Error("no".to_owned())])));
    }
}
