//! Frames, whole and broken.

use super::{Answer, Frames, Marker, ToHost, encode};

#[test]
fn frames_survive_any_cut() {
    let one = encode(&ToHost { marker: 3, body: Answer::Finished { seq: 9, asked: vec![] } });
    let two = encode(&ToHost { marker: 0, body: Answer::Goodbye });
    let bytes: Vec<u8> = one.iter().chain(&two).copied().collect();
    for cut in 0..bytes.len() {
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for mut part in [&bytes[..cut], &bytes[cut..]] {
            while !part.is_empty() {
                frames.fill(&mut part).unwrap();
            }
            while let Some(frame) = frames.next::<ToHost>().unwrap() {
                seen.push(frame);
            }
        }
        assert!(matches!(seen[0], ToHost { marker: 3, body: Answer::Finished { seq: 9, .. } }));
        assert!(matches!(seen[1].body, Answer::Goodbye), "cut at {cut}");
    }
}

#[test]
fn garbage_is_an_error_and_no_panic() {
    let mut frames = Frames::default();
    frames.fill(&mut &[255u8; 64][..]).unwrap();
    assert!(frames.next::<ToHost>().is_err());
    let mut frames = Frames::default();
    frames.fill(&mut &[1, 0, 0, 0, 200][..]).unwrap();
    assert!(frames.next::<ToHost>().is_err());
}

#[test]
fn a_marker_is_found_between_prints() {
    let marker = Marker::new(0x1234_5678_9abc_def0);
    let mut bytes = b"a\0\x1eline\n".to_vec();
    let start = bytes.len();
    bytes.extend(marker.bytes(7));
    assert_eq!(marker.find(&bytes), Some((start, 7)));
    assert_eq!(marker.find(&bytes[..bytes.len() - 1]), None);
    assert_eq!(Marker::new(1).find(&bytes), None);
}
