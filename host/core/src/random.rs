//! The run's random streams: ChaCha20 seeded by the start event, one stream number a purpose. Draws cost no write.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// What a stream is for; the discriminant is ChaCha's stream number, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `durable.random-*` and `durable.uuid`.
    Durable = 0,
    /// WASI randomness.
    Wasi = 1,
}

/// One stream of a seed, made when it is first drawn from.
#[derive(Clone, Debug)]
pub struct RandomStream {
    seed: [u8; 32],
    stream: Stream,
    rng: Option<Box<ChaCha20Rng>>,
}

impl RandomStream {
    #[must_use]
    pub fn new(seed: [u8; 32], stream: Stream) -> Self {
        Self { seed, stream, rng: None }
    }

    fn rng(&mut self) -> &mut ChaCha20Rng {
        self.rng.get_or_insert_with(|| {
            let mut rng = ChaCha20Rng::from_seed(self.seed);
            rng.set_stream(self.stream as u64);
            Box::new(rng)
        })
    }

    pub fn next_u64(&mut self) -> u64 {
        self.rng().next_u64()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng().fill_bytes(&mut bytes);
        bytes
    }

    /// A version 4 UUID.
    pub fn uuid(&mut self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.rng().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// How far the stream was drawn, in 32-bit words.
    #[must_use]
    pub fn position(&self) -> u128 {
        self.rng.as_ref().map_or(0, |rng| rng.get_word_pos())
    }

    /// Goes to a position that [`Self::position`] gave.
    pub fn set_position(&mut self, words: u128) {
        if words > 0 || self.rng.is_some() {
            self.rng().set_word_pos(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_seed_number_and_position() {
        let mut a = RandomStream::new([7; 32], Stream::Durable);
        let mut wasi = RandomStream::new([7; 32], Stream::Wasi);
        let first = a.next_u64();
        assert_ne!(first, wasi.next_u64());
        let at = a.position();
        let rest = (a.next_u64(), a.bytes(5), a.uuid());
        let mut b = RandomStream::new([7; 32], Stream::Durable);
        b.set_position(at);
        assert_eq!((b.next_u64(), b.bytes(5), b.uuid()), rest);
        assert_eq!(rest.2.get_version_num(), 4);
    }
}
