//! BLAKE3 hash mode after the paper's reference algorithm (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020),
//! without SIMD, keys or extendable output: an implementation that shares nothing with the daemon's.
#![allow(
    clippy::indexing_slicing,
    reason = "indices are constants or bounded by the fixed block and word sizes"
)]

const BLOCK: usize = 64;
const CHUNK: usize = 1024;
const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;
const IV: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// The 32-byte hash of a whole message.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The contract's text form: `b3:` and lower-case hex.
pub fn name(bytes: &[u8]) -> String {
    format!("b3:{}", super::text::hex(&hash(bytes)))
}

/// An incremental hash.
pub struct Hasher {
    chunk: Chunk,
    // At most one subtree per bit of the chunk counter.
    stack: Vec<[u32; 8]>,
}

impl Hasher {
    /// A hash of nothing so far.
    pub fn new() -> Hasher {
        Hasher { chunk: Chunk::new(0), stack: Vec::new() }
    }

    /// Takes more of the message.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.chunk.len() == CHUNK {
                let value = self.chunk.output().chain();
                let total = self.chunk.counter + 1;
                self.push(value, total);
                self.chunk = Chunk::new(total);
            }
            let take = bytes.len().min(CHUNK - self.chunk.len());
            self.chunk.update(&bytes[..take]);
            bytes = &bytes[take..];
        }
    }

    /// The hash of all that was taken.
    pub fn finish(&self) -> [u8; 32] {
        let mut output = self.chunk.output();
        for left in self.stack.iter().rev() {
            output = parent(*left, output.chain());
        }
        let words = compress(&output.cv, &output.block, 0, output.len, output.flags | ROOT);
        let mut out = [0; 32];
        for (piece, word) in out.chunks_exact_mut(4).zip(words) {
            piece.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn push(&mut self, mut value: [u32; 8], mut total: u64) {
        while total & 1 == 0 {
            let Some(left) = self.stack.pop() else { break };
            value = parent(left, value).chain();
            total >>= 1;
        }
        self.stack.push(value);
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

struct Output {
    cv: [u32; 8],
    block: [u32; 16],
    counter: u64,
    len: u32,
    flags: u32,
}

impl Output {
    fn chain(&self) -> [u32; 8] {
        let words = compress(&self.cv, &self.block, self.counter, self.len, self.flags);
        let mut out = [0; 8];
        out.copy_from_slice(&words[..8]);
        out
    }
}

struct Chunk {
    cv: [u32; 8],
    counter: u64,
    block: [u8; BLOCK],
    filled: usize,
    compressed: usize,
}

impl Chunk {
    fn new(counter: u64) -> Chunk {
        Chunk { cv: IV, counter, block: [0; BLOCK], filled: 0, compressed: 0 }
    }

    fn len(&self) -> usize {
        BLOCK * self.compressed + self.filled
    }

    fn start(&self) -> u32 {
        if self.compressed == 0 { CHUNK_START } else { 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK {
                let flags = self.start();
                let words = compress(&self.cv, &words(&self.block), self.counter, BLOCK as u32, flags);
                self.cv.copy_from_slice(&words[..8]);
                self.compressed += 1;
                self.block = [0; BLOCK];
                self.filled = 0;
            }
            let take = bytes.len().min(BLOCK - self.filled);
            self.block[self.filled..self.filled + take].copy_from_slice(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
        }
    }

    fn output(&self) -> Output {
        Output {
            cv: self.cv,
            block: words(&self.block),
            counter: self.counter,
            len: self.filled as u32,
            flags: self.start() | CHUNK_END,
        }
    }
}

fn parent(left: [u32; 8], right: [u32; 8]) -> Output {
    let mut block = [0; 16];
    block[..8].copy_from_slice(&left);
    block[8..].copy_from_slice(&right);
    Output { cv: IV, block, counter: 0, len: BLOCK as u32, flags: PARENT }
}

fn words(block: &[u8; BLOCK]) -> [u32; 16] {
    let mut out = [0; 16];
    for (word, four) in out.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    out
}

fn compress(cv: &[u32; 8], block: &[u32; 16], counter: u64, len: u32, flags: u32) -> [u32; 16] {
    let mut s = [0u32; 16];
    s[..8].copy_from_slice(cv);
    s[8..12].copy_from_slice(&IV[..4]);
    s[12] = counter as u32;
    s[13] = (counter >> 32) as u32;
    s[14] = len;
    s[15] = flags;
    let mut m = *block;
    for round in 0..7 {
        for i in 0..4 {
            mix(&mut s, [i, 4 + i, 8 + i, 12 + i], m[2 * i], m[2 * i + 1]);
        }
        for i in 0..4 {
            mix(&mut s, [i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4], m[8 + 2 * i], m[9 + 2 * i]);
        }
        if round < 6 {
            m = PERMUTATION.map(|from| m[from]);
        }
    }
    for i in 0..8 {
        s[i] ^= s[i + 8];
        s[i + 8] ^= cv[i];
    }
    s
}

fn mix(s: &mut [u32; 16], [a, b, c, d]: [usize; 4], x: u32, y: u32) {
    s[a] = s[a].wrapping_add(s[b]).wrapping_add(x);
    s[d] = (s[d] ^ s[a]).rotate_right(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_right(12);
    s[a] = s[a].wrapping_add(s[b]).wrapping_add(y);
    s[d] = (s[d] ^ s[a]).rotate_right(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_right(7);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn official_vectors() {
        for (len, hex) in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
            (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
            (2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"),
            (2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"),
            (31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"),
            (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
        ] {
            assert_eq!(name(&input(len)), format!("b3:{hex}"), "length {len}");
        }
    }

    #[test]
    fn pieces_make_the_same_hash_and_the_other_implementation_agrees() {
        for len in [0, 63, 64, 65, 1024, 3 * 1024, 5000, 16_384, 40_001] {
            let bytes = input(len);
            let mut hasher = Hasher::new();
            for piece in bytes.chunks(77) {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), hash(&bytes));
            assert_eq!(hasher.finish(), *blake3::hash(&bytes).as_bytes(), "length {len}");
        }
    }
}
