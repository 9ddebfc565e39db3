//! Answers of stores, checked once.

use std::ops::Range;

use bytes::Bytes;

use super::{AnswerError, BlockChunk};

/// The blocks of `range` in order, each of `block` bytes, out of what a store answered.
pub(crate) fn blocks(
    chunks: Vec<BlockChunk>,
    range: &Range<u64>,
    block: usize,
) -> Result<Vec<Bytes>, AnswerError> {
    let count = usize::try_from(range.end - range.start).expect("as many as one read has");
    let mut found: Vec<Option<Bytes>> = vec![None; count];
    for BlockChunk { start, mut data } in chunks {
        if data.is_empty() || !data.len().is_multiple_of(block) {
            return Err(AnswerError::Length { start, length: data.len() });
        }
        let mut number = start;
        while !data.is_empty() {
            if !range.contains(&number) {
                return Err(AnswerError::Foreign(number));
            }
            let index = usize::try_from(number - range.start).expect("less than the count");
            if found[index].replace(data.split_to(block)).is_some() {
                return Err(AnswerError::Duplicate(number));
            }
            number += 1;
        }
    }
    let numbered = range.clone().zip(found);
    numbered.map(|(number, bytes)| bytes.ok_or(AnswerError::Missing(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(start: u64, data: &'static [u8]) -> BlockChunk {
        BlockChunk { start, data: Bytes::from_static(data) }
    }

    #[test]
    fn chunks_of_any_order_and_size_become_blocks() {
        let answer = vec![chunk(6, b"cc"), chunk(4, b"aabb")];
        assert_eq!(blocks(answer, &(4..7), 2).unwrap(), ["aa", "bb", "cc"]);
    }

    #[test]
    fn wrong_answers_are_told_apart() {
        let cases = [
            (vec![chunk(4, b"aa")], AnswerError::Missing(5)),
            (vec![], AnswerError::Missing(4)),
            (vec![chunk(4, b"aabbcc")], AnswerError::Foreign(6)),
            (vec![chunk(3, b"aabbcc")], AnswerError::Foreign(3)),
            (vec![chunk(u64::MAX, b"aabb")], AnswerError::Foreign(u64::MAX)),
            (vec![chunk(4, b"aabb"), chunk(5, b"bb")], AnswerError::Duplicate(5)),
            (vec![chunk(4, b"aab")], AnswerError::Length { start: 4, length: 3 }),
            (vec![chunk(4, b"")], AnswerError::Length { start: 4, length: 0 }),
        ];
        for (answer, error) in cases {
            assert_eq!(blocks(answer, &(4..6), 2), Err(error));
        }
    }
}
