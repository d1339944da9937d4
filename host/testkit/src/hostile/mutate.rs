//! Damaged copies of honest components, the same for the same seed: bits flipped, bytes exchanged, pieces cut out,
//! doubled and truncated.

/// splitmix64: random enough, and the same for the same seed.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % (end.max(1) as u64)) as usize
    }
}

/// Bytes that mean something in the binary format: section ids, type codes, ends of varints, the largest of them.
const TELLING: [u8; 16] =
    [0x00, 0x01, 0x0a, 0x0b, 0x0d, 0x3f, 0x40, 0x60, 0x70, 0x7f, 0x80, 0xbf, 0xc0, 0xfd, 0xfe, 0xff];
/// The longest piece that is cut out or doubled.
const MAX_PIECE: usize = 4096;
/// One in so many copies is damaged in one place only.
const SINGLE_ONE_IN: usize = 100;
/// Places near the beginning, where headers and sections of types stand, are hit as often as all others.
const HEAD: usize = 2048;

/// One damaged copy of `honest`.
#[must_use]
pub fn mutate(honest: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    // A single wound is often survived, and what survives takes a hundred times as long to check: it is rare, not absent.
    let wounds = if rng.below(SINGLE_ONE_IN) == 0 { 1 } else { 3 + rng.below(8) };
    for _ in 0..wounds {
        let end = if rng.below(2) == 0 { bytes.len().min(HEAD) } else { bytes.len() };
        let at = rng.below(end);
        let piece = rng.below(MAX_PIECE.min(bytes.len().saturating_sub(at))) + 1;
        match rng.below(16) {
            _ if bytes.len() < 2 => return bytes,
            0..=6 => bytes[at] ^= 1 << rng.below(8),
            7..=10 => bytes[at] = TELLING[rng.below(TELLING.len())],
            11 | 12 => bytes[at] = rng.draw() as u8,
            13 => drop(bytes.drain(at..(at + piece).min(bytes.len()))),
            14 => {
                let copy = bytes[at..(at + piece).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at + 1),
        }
    }
    bytes
}
