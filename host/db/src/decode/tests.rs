//! Values as PostgreSQL sends them in binary.

use super::*;

#[test]
fn dates_around_the_epoch() {
    let text = |days| date(days).map(|d| (d.year, d.month, d.day));
    assert_eq!(text(0), Some((2000, 1, 1)));
    assert_eq!(text(59), Some((2000, 2, 29)));
    assert_eq!(text(-1), Some((1999, 12, 31)));
    assert_eq!(text(-730_119), Some((1, 1, 1)));
    assert_eq!(text(10_561), Some((2028, 11, 30)));
}

#[test]
fn numerics_keep_their_scale() {
    let wire = |digits: &[u16], weight: i16, sign: u16, scale: u16| {
        let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, scale];
        let bytes: Vec<u8> = head.iter().chain(digits).flat_map(|w| w.to_be_bytes()).collect();
        numeric(&bytes).unwrap()
    };
    assert_eq!(wire(&[], 0, 0, 2), "0.00");
    assert_eq!(wire(&[1, 5000], 0, 0, 2), "1.50");
    assert_eq!(wire(&[12, 3400], -1, 0x4000, 6), "-0.001234");
    assert_eq!(wire(&[1], 2, 0, 0), "100000000");
    assert_eq!(wire(&[5], -2, 0, 8), "0.00000005");
}
