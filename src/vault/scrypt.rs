//! scrypt (RFC 7914) on ring's PBKDF2. Keys of ours are not sealed with it; those that OpenSSL sealed so are opened.
use ring::pbkdf2;
use std::num::NonZeroU32;
use zeroize::{Zeroize as _, Zeroizing};

/// Most memory that a derivation may take, bytes: the default of `openssl pkcs8 -scrypt`.
pub const MAX_MEMORY: u64 = 16 << 20;
/// Most work: four times that default.
const MAX_WORK: u64 = 4 * MAX_MEMORY;

/// The cost parameters of RFC 7914 section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    n: u32,
    r: u32,
    p: u32,
}

impl Cost {
    /// `None` where they are no parameters of scrypt, or would take more than [`MAX_MEMORY`] or a long time.
    pub fn new(n: u32, r: u32, p: u32) -> Option<Cost> {
        let memory = 128_u64.checked_mul(n.into())?.checked_mul(r.into())?;
        let work = memory.checked_mul(p.into())?;
        let valid = n > 1 && n.is_power_of_two() && work > 0;
        (valid && memory <= MAX_MEMORY && work <= MAX_WORK).then_some(Cost { n, r, p })
    }

    /// N, r and p.
    pub fn parameters(self) -> [u32; 3] {
        [self.n, self.r, self.p]
    }
}

/// Derives a key.
pub fn derive(passphrase: &[u8], salt: &[u8], cost: Cost, out: &mut [u8]) {
    let block = cost.r as usize * 128;
    let mut blocks = Zeroizing::new(vec![0; block * cost.p as usize]);
    once(passphrase, salt, &mut blocks);
    blocks.chunks_exact_mut(block).for_each(|b| mix(b, cost.n as usize));
    once(passphrase, &blocks, out);
}

fn once(passphrase: &[u8], salt: &[u8], out: &mut [u8]) {
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::MIN, salt, passphrase, out);
}

/// scryptROMix, RFC 7914 section 5.
fn mix(block: &mut [u8], n: usize) {
    let words = block.len() / 4;
    let read = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
    let mut x: Zeroizing<Vec<u32>> = Zeroizing::new(block.chunks_exact(4).map(read).collect());
    let mut y = Zeroizing::new(vec![0; words]);
    let mut all = Zeroizing::new(vec![0; words * n]);
    for kept in all.chunks_exact_mut(words) {
        kept.copy_from_slice(&x);
        mix_block(&mut x, &mut y);
    }
    for _ in 0..n {
        // Integerify: the last 64-byte block's first word, modulo a power of two.
        let j = x.iter().rev().nth(15).map_or(0, |w| *w as usize) & (n - 1);
        let kept = all.get(j * words..(j + 1) * words).unwrap_or_default();
        x.iter_mut().zip(kept).for_each(|(a, b)| *a ^= b);
        mix_block(&mut x, &mut y);
    }
    block.chunks_exact_mut(4).zip(x.iter()).for_each(|(b, w)| b.copy_from_slice(&w.to_le_bytes()));
}

/// scryptBlockMix, RFC 7914 section 4: the even blocks of the result come first.
fn mix_block(x: &mut [u32], y: &mut [u32]) {
    let mut last = [0; 16];
    last.iter_mut().rev().zip(x.iter().rev()).for_each(|(to, from)| *to = *from);
    let (even, odd) = y.split_at_mut(x.len() / 2);
    let targets = even.chunks_exact_mut(16).zip(odd.chunks_exact_mut(16));
    for (pair, (even, odd)) in x.chunks_exact(32).zip(targets) {
        for (half, to) in pair.chunks_exact(16).zip([even, odd]) {
            last.iter_mut().zip(half).for_each(|(a, b)| *a ^= b);
            salsa(&mut last);
            to.copy_from_slice(&last);
        }
    }
    x.copy_from_slice(y);
    last.zeroize();
}

/// Salsa20/8 core, RFC 7914 section 3.
fn salsa(block: &mut [u32; 16]) {
    let mut x = *block;
    for _ in 0..4 {
        (x[0], x[4], x[8], x[12]) = quarter(x[0], x[4], x[8], x[12]);
        (x[5], x[9], x[13], x[1]) = quarter(x[5], x[9], x[13], x[1]);
        (x[10], x[14], x[2], x[6]) = quarter(x[10], x[14], x[2], x[6]);
        (x[15], x[3], x[7], x[11]) = quarter(x[15], x[3], x[7], x[11]);
        (x[0], x[1], x[2], x[3]) = quarter(x[0], x[1], x[2], x[3]);
        (x[5], x[6], x[7], x[4]) = quarter(x[5], x[6], x[7], x[4]);
        (x[10], x[11], x[8], x[9]) = quarter(x[10], x[11], x[8], x[9]);
        (x[15], x[12], x[13], x[14]) = quarter(x[15], x[12], x[13], x[14]);
    }
    block.iter_mut().zip(x).for_each(|(a, b)| *a = a.wrapping_add(b));
}

fn quarter(mut a: u32, mut b: u32, mut c: u32, mut d: u32) -> (u32, u32, u32, u32) {
    b ^= a.wrapping_add(d).rotate_left(7);
    c ^= b.wrapping_add(a).rotate_left(9);
    d ^= c.wrapping_add(b).rotate_left(13);
    a ^= d.wrapping_add(c).rotate_left(18);
    (a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;

    #[test]
    fn the_vectors_of_rfc_7914_section_12() {
        for (passphrase, salt, (n, r, p), wanted) in [
            ("", "", (16, 1, 1), "77d6576238657b203b19ca42c18a0497"),
            ("password", "NaCl", (1024, 8, 16), "fdbabe1c9d3472007856e7190d01e9fe"),
        ] {
            let mut out = [0; 64];
            derive(passphrase.as_bytes(), salt.as_bytes(), Cost::new(n, r, p).unwrap(), &mut out);
            assert_eq!(hex(&out[..16]), wanted);
        }
    }

    #[test]
    fn cost_is_bounded() {
        assert!(Cost::new(16384, 8, 4).is_some());
        for (n, r, p) in [
            (32768, 8, 1),
            (16384, 9, 1),
            (16384, 8, 5),
            (3, 1, 1),
            (1, 1, 1),
            (0, 1, 1),
            (16, 0, 1),
            (16, 1, 0),
        ] {
            assert_eq!(Cost::new(n, r, p), None, "{n} {r} {p}");
        }
        assert_eq!(Cost::new(1 << 31, u32::MAX, u32::MAX), None);
    }
}
