//! Whether a pickle builds plain values and nothing else, and how much of them.
//!
//! It goes through the pickle's opcodes as the machine would that they are for, and keeps of every
//! value how deep it is and how much memory it will need. Of opcodes it knows those that Python 3
//! writes for plain values, from protocol 3 on. What asks for a class or function is refused by name,
//! and everything else as well.

use std::collections::HashMap;

use thiserror::Error;

/// How deep values may be in each other.
const DEEPEST: u32 = 128;
/// How much memory values may need, about.
const LARGEST: u64 = 1 << 30;
/// How much a value needs beside its bytes, about.
const VALUE: u64 = 32;

/// Looks through a pickle.
pub(super) fn check(pickle: &[u8]) -> Result<(), NotPlain> {
    let mut machine = Machine {
        rest: pickle,
        ..Machine::default()
    };
    while !machine.step()? {}
    match (machine.rest, machine.marks.len(), machine.stack.len()) {
        ([], 0, 1) => Ok(()),
        _ => Err(NotPlain::Malformed("it does not end with its value")),
    }
}

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum NotPlain {
    #[error("the pickle is cut off")]
    CutOff,
    #[error("the pickle is malformed: {0}")]
    Malformed(&'static str),
    #[error("the pickle asks for {0}, and nothing but plain values is read")]
    Object(String),
    #[error("the pickle has opcode {0:#04x}, which Python 3 does not write for plain values")]
    Opcode(u8),
    #[error("the pickle has a value that contains itself")]
    Recursive,
    #[error("the pickle is nested deeper than {DEEPEST}")]
    TooDeep,
    #[error("the values of the pickle would need more than {LARGEST} bytes")]
    TooLarge,
}

/// What is known of a value on the stack.
#[derive(Clone, Copy, Debug)]
struct Value {
    /// How many are in each other, this one included.
    depth: u32,
    size: u64,
    /// What may still be put into it.
    takes: Takes,
    /// Under which number it is in the memo.
    memo: Option<u32>,
}

/// What one of these can be extended by, until it is somebody's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Items,
    Pairs,
    Members,
}

#[derive(Debug, Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// Where on the stack the marks are.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// How much all is together that was put on the stack.
    size: u64,
    /// The last two texts, which name a class if one is asked for.
    texts: [&'a [u8]; 2],
}

impl<'a> Machine<'a> {
    /// Takes one opcode; tells whether it was the last.
    fn step(&mut self) -> Result<bool, NotPlain> {
        let [opcode] = self.fixed()?;
        match opcode {
            // The end.
            b'.' => return Ok(true),
            // Which protocol, and how long a frame is.
            0x80 => drop(self.fixed::<1>()?),
            0x95 => drop(self.fixed::<8>()?),
            // None, True, False, and numbers.
            b'N' | 0x88 | 0x89 => self.push_scalar(0)?,
            b'K' => self.skip_scalar(1)?,
            b'M' => self.skip_scalar(2)?,
            b'J' => self.skip_scalar(4)?,
            b'G' => self.skip_scalar(8)?,
            0x8a => self.counted::<1>().map(drop)?,
            0x8b => self.counted::<4>().map(drop)?,
            // Bytes.
            b'C' => self.counted::<1>().map(drop)?,
            b'B' => self.counted::<4>().map(drop)?,
            0x8e | 0x96 => self.counted::<8>().map(drop)?,
            // Texts.
            0x8c => self.text::<1>()?,
            b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            // Tuples: of what is above the mark, or of so many.
            b')' => self.collect(0, Takes::Nothing)?,
            0x85..=0x87 => self.collect(usize::from(opcode - 0x84), Takes::Nothing)?,
            b't' | 0x91 => {
                let count = self.above_mark()?;
                self.collect(count, Takes::Nothing)?;
            }
            // Lists, dicts and sets begin empty, and are extended.
            b']' => self.collect(0, Takes::Items)?,
            b'}' => self.collect(0, Takes::Pairs)?,
            0x8f => self.collect(0, Takes::Members)?,
            b'a' => self.extend(1, Takes::Items)?,
            b's' => self.extend(2, Takes::Pairs)?,
            b'e' | b'u' | 0x90 => {
                let count = self.above_mark()?;
                let takes = match opcode {
                    b'e' => Takes::Items,
                    b'u' => Takes::Pairs,
                    _ => Takes::Members,
                };
                self.extend(count, takes)?;
            }
            b'(' => self.mark()?,
            // What is used more than once.
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'q' => {
                let [number] = self.fixed()?;
                self.memoize(number.into())?;
            }
            b'r' => {
                let number = self.fixed()?;
                self.memoize(u32::from_le_bytes(number))?;
            }
            b'h' => {
                let [number] = self.fixed()?;
                self.recall(number.into())?;
            }
            b'j' => {
                let number = self.fixed()?;
                self.recall(u32::from_le_bytes(number))?;
            }
            // A class or function by its name, and what is done with one.
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(object(module, name));
            }
            0x93 => return Err(object(self.texts[0], self.texts[1])),
            _ => return Err(NotPlain::Opcode(opcode)),
        }
        Ok(false)
    }

    fn push_scalar(&mut self, bytes: u64) -> Result<(), NotPlain> {
        self.push(Value {
            depth: 0,
            size: VALUE + bytes,
            takes: Takes::Nothing,
            memo: None,
        })
    }

    fn skip_scalar(&mut self, bytes: usize) -> Result<(), NotPlain> {
        self.take(bytes)?;
        self.push_scalar(0)
    }

    /// A value of as many bytes as the number before them says, which has `N` bytes itself.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], NotPlain> {
        let mut count = [0; 8];
        count[..N].copy_from_slice(&self.fixed::<N>()?);
        let count = u64::from_le_bytes(count);
        let bytes = self.take(usize::try_from(count).unwrap_or(usize::MAX))?;
        self.push_scalar(count)?;
        Ok(bytes)
    }

    fn text<const N: usize>(&mut self) -> Result<(), NotPlain> {
        let text = self.counted::<N>()?;
        self.texts = [self.texts[1], text];
        Ok(())
    }

    /// Makes one value of so many.
    fn collect(&mut self, count: usize, takes: Takes) -> Result<(), NotPlain> {
        let empty = Value {
            depth: 1,
            size: VALUE,
            takes,
            memo: None,
        };
        let whole = self.with_parts(empty, count)?;
        self.size -= whole.size - VALUE;
        self.push(whole)
    }

    /// Puts so many values into the one below them.
    fn extend(&mut self, count: usize, takes: Takes) -> Result<(), NotPlain> {
        if takes == Takes::Pairs && count % 2 == 1 {
            return Err(NotPlain::Malformed("a key has no value"));
        }
        let whole = self.stack.len().checked_sub(count + 1);
        let whole = whole.filter(|whole| self.marks.last().is_none_or(|mark| whole >= mark));
        let whole = whole.ok_or(NotPlain::Malformed("there is nothing to be extended"))?;
        let whole = self.stack[whole];
        if whole.takes != takes {
            return Err(NotPlain::Malformed(
                "what is to be extended is of another kind",
            ));
        }
        let whole = self.with_parts(whole, count)?;
        if let Some(number) = whole.memo {
            let known = self.memo.insert(number, whole);
            // It is part of something already, perhaps of what it is to contain.
            if known.is_none_or(|known| known.takes == Takes::Nothing) {
                return Err(NotPlain::Recursive);
            }
        }
        self.stack.pop();
        self.stack.push(whole);
        Ok(())
    }

    /// Takes so many off the stack, and adds up what they make of one that they are parts of.
    fn with_parts(&mut self, mut whole: Value, count: usize) -> Result<Value, NotPlain> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count);
        let start = start.filter(|start| *start >= bottom);
        let start = start.ok_or(NotPlain::Malformed("there are too few values"))?;
        for part in self.stack.drain(start..) {
            whole.depth = whole.depth.max(part.depth + 1);
            whole.size += part.size;
        }
        if whole.depth > DEEPEST {
            return Err(NotPlain::TooDeep);
        }
        Ok(whole)
    }

    fn push(&mut self, value: Value) -> Result<(), NotPlain> {
        self.size += value.size;
        if self.size > LARGEST {
            return Err(NotPlain::TooLarge);
        }
        self.stack.push(value);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), NotPlain> {
        // A mark needs memory as well.
        self.size += VALUE;
        if self.marks.len() as u32 > DEEPEST {
            return Err(NotPlain::TooDeep);
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn above_mark(&mut self) -> Result<usize, NotPlain> {
        let mark = self.marks.pop();
        let mark = mark.ok_or(NotPlain::Malformed("there is no mark"))?;
        Ok(self.stack.len() - mark)
    }

    fn memoize(&mut self, number: u32) -> Result<(), NotPlain> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let top = self.stack[bottom..].last_mut();
        let top = top.ok_or(NotPlain::Malformed("there is nothing to be remembered"))?;
        if top.memo.is_some() || self.memo.contains_key(&number) {
            return Err(NotPlain::Malformed("something is remembered twice"));
        }
        top.memo = Some(number);
        self.memo.insert(number, *top);
        self.size += VALUE;
        Ok(())
    }

    /// What is used again is not changed any more, so that what is known of it stays true.
    fn recall(&mut self, number: u32) -> Result<(), NotPlain> {
        let known = self.memo.get_mut(&number);
        let known = known.ok_or(NotPlain::Malformed("what was not remembered is used"))?;
        known.takes = Takes::Nothing;
        let known = *known;
        self.push(known)
    }

    fn line(&mut self) -> Result<&'a [u8], NotPlain> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or(NotPlain::CutOff)?)?;
        self.take(1)?;
        Ok(line)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], NotPlain> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(NotPlain::CutOff)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NotPlain> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(NotPlain::CutOff)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn object(module: &[u8], name: &[u8]) -> NotPlain {
    const SHOWN: usize = 100;
    let shown = |text: &[u8]| text[..text.len().min(SHOWN)].escape_ascii().to_string();
    NotPlain::Object(format!("{}.{}", shown(module), shown(name)))
}

#[cfg(test)]
mod tests;
