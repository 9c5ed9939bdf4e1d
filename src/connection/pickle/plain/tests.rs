//! Pickles as CPython writes them, and as somebody might who means no good.

use bytes::Bytes;
use serde_pickle::value::{HashableValue, Value as Any};

use super::super::read;
use super::*;

/// `pickle.dumps([None, True, 255, 65535, -1, 1 << 40, 2.25, "text", b"bytes", (), (1,), (1, 2, 3, 4),
/// {"a": 1, "b": {"a": 2}}], 4)`, the long frame's length aside.
const PROTOCOL_4: &[u8] =
    b"\x80\x04\x95\x5f\0\0\0\0\0\0\0]\x94(N\x88K\xffM\xff\xffJ\xff\xff\xff\xff\
    \x8a\x06\0\0\0\0\0\x01G@\x02\0\0\0\0\0\0\x8c\x04text\x94C\x05bytes\x94)K\x01\x85\x94\
    (K\x01K\x02K\x03K\x04t\x94}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94}\x94h\x06K\x02sue.";

/// `pickle.dumps([1, "x", (1, 2)], 3)`.
const PROTOCOL_3: &[u8] = b"\x80\x03]q\0(K\x01X\x01\0\0\0xq\x01K\x01K\x02\x86q\x02e.";

fn ints(ints: &[i64]) -> Any {
    Any::List(ints.iter().copied().map(Any::I64).collect())
}

fn dict(entries: Vec<(&str, Any)>) -> Any {
    let entries = entries.into_iter();
    Any::Dict(
        entries
            .map(|(key, value)| (HashableValue::String(key.to_owned()), value))
            .collect(),
    )
}

#[test]
fn plain_values_are_read() {
    let expected = vec![
        Any::None,
        Any::Bool(true),
        Any::I64(255),
        Any::I64(65_535),
        Any::I64(-1),
        Any::I64(1 << 40),
        Any::F64(2.25),
        Any::String("text".to_owned()),
        Any::Bytes(b"bytes".to_vec()),
        // Serde's tuples are sequences of any length.
        ints(&[]),
        ints(&[1]),
        ints(&[1, 2, 3, 4]),
        dict(vec![
            ("a", Any::I64(1)),
            ("b", dict(vec![("a", Any::I64(2))])),
        ]),
    ];
    assert_eq!(read::<Vec<Any>>(PROTOCOL_4).unwrap(), expected);
    let expected = (1, "x".to_owned(), (1, 2));
    assert_eq!(
        read::<(u8, String, (u8, u8))>(PROTOCOL_3).unwrap(),
        expected
    );
    // A set, a frozenset and, in protocol 5, a bytearray.
    for set in [
        &b"\x80\x04\x8f\x94(K\x01K\x02\x90."[..],
        b"\x80\x04(K\x01K\x02\x91\x94.",
    ] {
        assert_eq!(read::<Vec<u8>>(set).unwrap(), [1, 2]);
    }
    let array = b"\x80\x05\x96\x01\0\0\0\0\0\0\0z\x94.";
    assert_eq!(read::<Bytes>(array).unwrap(), "z");
}

#[test]
fn what_was_pickled_here_can_be_read_here() {
    let value = (1_u64 << 40, -7_i8, vec![Some("x"), None], [0.5, f64::MAX]);
    let pickle = serde_pickle::to_vec(&value, Default::default()).unwrap();
    let back: (u64, i8, Vec<Option<String>>, [f64; 2]) = read(&pickle).unwrap();
    assert_eq!((back.0, back.1, back.3), (value.0, value.1, value.3));
    assert_eq!(back.2, [Some("x".to_owned()), None]);
}

fn refused(pickle: &[u8]) -> String {
    let error = read::<Any>(pickle).unwrap_err();
    assert!(error.is_decode(), "{error}");
    check(pickle).unwrap_err().to_string()
}

#[test]
fn objects_are_refused_by_name() {
    for (pickle, name) in [
        (
            &b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."[..],
            "posix.system",
        ),
        (b"cposix\nsystem\np0\n.", "posix.system"),
        (
            b"\x80\x03cbuiltins\nset\nq\0]q\x01\x85q\x02R.",
            "builtins.set",
        ),
        (b"(S'x'\nios\nsystem\n.", ""),
        (b"(ios\nsystem\n.", "os.system"),
    ] {
        let why = refused(pickle);
        assert!(why.contains(name), "{why}");
    }
    // By its number in Python's registry, or as something that is kept elsewhere.
    for pickle in [&b"\x80\x04\x82\x01."[..], b"Pname\n.", b"K\x01Q.", b"\x97."] {
        assert!(refused(pickle).contains("opcode"));
    }
    let long = [b"c".as_slice(), &[b'x'; 10_000], b"\n\xff\n."].concat();
    assert!(refused(&long).len() < 300);
}

#[test]
fn a_value_that_contains_itself_is_refused() {
    // l = []; l.append(l), and t = ([],); t[0].append(t).
    for pickle in [
        &b"\x80\x04]\x94h\0a."[..],
        b"\x80\x04]\x94h\0\x85\x94a0h\x01.",
    ] {
        assert_eq!(check(pickle), Err(NotPlain::Recursive));
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |depth: usize| {
        let begin = b"]".repeat(depth);
        [&begin[..], &b"a".repeat(depth - 1), b"."].concat()
    };
    assert_eq!(check(&nested(128)), Ok(()));
    assert_eq!(check(&nested(129)), Err(NotPlain::TooDeep));
    assert_eq!(check(&nested(1_000_000)), Err(NotPlain::TooDeep));
    assert_eq!(check(&b"(".repeat(1_000_000)), Err(NotPlain::TooDeep));
    assert!(read::<serde::de::IgnoredAny>(&nested(128)).is_ok());
}

/// A list of ten, a list of ten of those, and so on: small as a pickle, and of no size in memory.
#[test]
fn repetition_has_a_limit() {
    let mut pickle = b"\x80\x04C\x64".to_vec();
    pickle.extend([b'x'; 100]);
    pickle.push(0x94);
    for level in 0..20 {
        pickle.extend(b"](");
        pickle.extend([b'h', level].repeat(10));
        pickle.extend(b"e\x94");
    }
    pickle.extend(b".");
    assert_eq!(check(&pickle), Err(NotPlain::TooLarge));
}

#[test]
fn no_number_in_it_is_believed() {
    for pickle in [
        &b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff."[..],
        b"\x80\x04\x8d\0\0\0\0\0\x01\0\0.",
        b"\x80\x04B\xff\xff\xff\xff.",
        b"\x80\x04\x8b\xff\xff\xff\xff.",
        b"\x80\x04C\x05four.",
    ] {
        assert_eq!(check(pickle), Err(NotPlain::CutOff));
    }
}

#[test]
fn every_cut_and_whatever_follows_is_refused() {
    for whole in [PROTOCOL_3, PROTOCOL_4] {
        assert_eq!(check(whole), Ok(()));
        for length in 0..whole.len() {
            assert!(read::<Any>(&whole[..length]).is_err(), "{length}");
        }
        assert!(refused(&[whole, b"."].concat()).contains("does not end"));
    }
}

#[test]
fn a_machine_that_would_be_confused_is_not_begun() {
    for (pickle, why) in [
        (&b"."[..], "does not end with its value"),
        (b"NN.", "does not end with its value"),
        (b"(N.", "does not end with its value"),
        (b"\x85.", "too few"),
        (b"N(\x85.", "too few"),
        (b"Na.", "nothing to be extended"),
        (b"](Na.", "nothing to be extended"),
        (b"Ne.", "no mark"),
        (b"NNa.", "another kind"),
        (b"}Na.", "another kind"),
        (b"}(Nu.", "no value"),
        (b"\x94.", "nothing to be remembered"),
        (b"]\x94\x94.", "twice"),
        (b"Nq\0Nq\0.", "twice"),
        (b"h\0.", "not remembered"),
        // Only older protocols have these.
        (b"I1\n.", "opcode 0x49"),
        (b"N2.", "opcode 0x32"),
        (b"N0.", "opcode 0x30"),
    ] {
        let told = refused(pickle);
        assert!(told.contains(why), "{}: {told}", pickle.escape_ascii());
    }
}
