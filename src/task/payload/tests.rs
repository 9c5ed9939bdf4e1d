//! What payloads promise: round trips, limits, refusals and their texts.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use super::super::limits::{MAX_DEPTH, MAX_EMPTY};
use super::*;

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out).expect("the value can be encoded");
    out
}

/// The value comes back, and the bytes are the ones that postcard itself writes.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = encoded(&value);
    assert_eq!(
        bytes,
        postcard::to_stdvec(&value).expect("postcard takes it")
    );
    assert_eq!(decode::<T>(&bytes).expect("it decodes"), value);
}

fn refusal<T: DeserializeOwned>(bytes: &[u8]) -> DecodeError {
    match decode::<T>(bytes) {
        Ok(_) => panic!("{bytes:?} was accepted"),
        Err(error) => error,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Every {
    Unit,
    Newtype(u64),
    Tuple(i8, String),
    Struct {
        deep: Option<Box<Every>>,
        at: (u8, char),
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u16, i16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum List {
    Nil,
    Cons(Box<List>),
}

#[test]
fn what_goes_in_comes_out_and_is_postcard_in_between() {
    round_trip(());
    round_trip((true, false, u8::MAX, i8::MIN));
    round_trip((u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    round_trip((i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    round_trip((1.5f32, f64::NEG_INFINITY, f32::MIN_POSITIVE, -0.0f64));
    round_trip(['a', 'ß', '€', '🦀']);
    round_trip((String::new(), "grüße".to_owned()));
    round_trip([None, Some(None), Some(Some(7u8))]);
    round_trip((Meters(2.5), Pair(1, -1), Marker, PhantomData::<String>));
    round_trip(vec![
        Every::Unit,
        Every::Newtype(1 << 40),
        Every::Tuple(-1, "x".into()),
        Every::Struct {
            deep: Some(Box::new(Every::Unit)),
            at: (1, 'z'),
        },
    ]);
    round_trip(HashMap::from([
        (1u32, "one".to_owned()),
        (2, "two".to_owned()),
    ]));
    round_trip(BTreeMap::from([
        (Every::Unit, vec![1u8]),
        (Every::Newtype(2), vec![]),
    ]));
    round_trip((vec![0u8, 1, 255], Bytes::from_static(b"as they are")));
    round_trip(Ok::<u8, String>(3));
    round_trip(std::time::Duration::from_millis(1_500));
    round_trip(
        "127.0.0.1:80"
            .parse::<std::net::SocketAddr>()
            .expect("an address"),
    );
}

#[test]
fn the_bits_of_a_nan_survive() {
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    let back: f64 = decode(&encoded(&odd)).expect("it decodes");
    assert_eq!(back.to_bits(), odd.to_bits());
}

#[test]
fn a_failed_encoding_leaves_the_buffer_as_it_was() {
    let mut out = b"kept".to_vec();
    encode(&("written first", Refuses), &mut out).expect_err("it refuses");
    assert_eq!(out, b"kept");
}

#[test]
fn announcing_units_without_end_is_refused_at_once() {
    let endless = encoded(&(1u64 << 60));
    assert!(
        refusal::<Vec<Marker>>(&endless)
            .reason()
            .contains("a length of")
    );
    assert!(
        refusal::<Vec<()>>(&endless)
            .reason()
            .contains("a length of")
    );
    assert!(
        refusal::<HashMap<(), ()>>(&endless)
            .reason()
            .contains("a length of")
    );
}

#[test]
fn elements_without_bytes_are_counted_over_the_whole_message() {
    let most = vec![(); MAX_EMPTY as usize];
    let bytes = encoded(&most);
    assert_eq!(
        decode::<Vec<()>>(&bytes).expect("it decodes").len(),
        most.len()
    );

    let mut out = Vec::new();
    let split = vec![
        vec![Marker; 0],
        most.iter().map(|()| Marker).collect(),
        vec![Marker],
    ];
    let error = encode(&split, &mut out).expect_err("one too many");
    assert!(error.reason().contains("65536 elements"), "{error}");
    let bytes = postcard::to_stdvec(&split).expect("postcard does not mind");
    refusal::<Vec<Vec<Marker>>>(&bytes);
    // With bytes behind it the length alone is no proof, and the count decides.
    let bytes = [encoded(&(MAX_EMPTY + 1)), vec![0; 10]].concat();
    let error = refusal::<(Vec<()>, [u8; 10])>(&bytes);
    assert!(error.reason().contains("65536 elements"), "{error}");

    // Keys without bytes cost; entries whose values have some do not.
    round_trip(BTreeMap::from([((), 5u8)]));
    let pairs = [encoded(&70_000u32), vec![9; 70_000]].concat();
    assert_eq!(
        decode::<HashMap<(), u8>>(&pairs).expect("it decodes"),
        HashMap::from([((), 9)])
    );
}

fn list(depth: u32) -> List {
    (0..depth).fold(List::Nil, |inner, _| List::Cons(Box::new(inner)))
}

#[test]
fn the_deepest_allowed_value_passes_and_the_next_is_refused_at_both_ends() {
    round_trip(list(MAX_DEPTH));
    let too_deep = list(MAX_DEPTH + 1);
    let error = encode(&too_deep, &mut Vec::new()).expect_err("too deep");
    assert!(error.reason().contains("128 levels"), "{error}");
    let bytes = postcard::to_stdvec(&too_deep).expect("postcard does not mind");
    let error = refusal::<List>(&bytes);
    assert!(error.reason().contains("128 levels"), "{error}");
    assert_eq!(error.position(), Some(129));
}

#[test]
fn a_mebibyte_of_nesting_does_not_overflow_the_stack() {
    let bomb = vec![1; 1 << 20];
    assert!(refusal::<List>(&bomb).reason().contains("128 levels"));
}

#[test]
fn every_kind_of_nesting_counts_one_level() {
    #[derive(Serialize, Deserialize)]
    struct Newtype(Option<Box<Newtype>>);
    #[derive(Serialize, Deserialize)]
    struct Struct {
        #[serde(rename = "next")]
        inner: Vec<Struct>,
    }
    // A newtype and its option are two levels, 127 with the innermost newtype; a struct and
    // its vector are two, 128 with the innermost, empty one.
    let newtypes = (1..MAX_DEPTH / 2).fold(Newtype(None), |n, _| Newtype(Some(n.into())));
    let newtypes = [newtypes];
    decode::<[Newtype; 1]>(&encoded(&newtypes))
        .map(drop)
        .expect("128 deep");
    encode(&[newtypes], &mut Vec::new()).expect_err("129 deep");
    let structs =
        (1..MAX_DEPTH / 2).fold(Struct { inner: vec![] }, |s, _| Struct { inner: vec![s] });
    decode::<Struct>(&encoded(&structs))
        .map(drop)
        .expect("128 deep");
    encode(&(structs,), &mut Vec::new()).expect_err("129 deep");
}

#[test]
fn trailing_bytes_are_refused() {
    let error = refusal::<u8>(&[1, 2, 3]);
    assert_eq!(error.reason(), "2 bytes are left over");
    assert_eq!(error.position(), Some(1));
    assert_eq!(error.type_name(), "u8");
}

#[test]
fn every_truncation_is_refused() {
    type Message = (u64, String, Vec<Every>, HashMap<u8, Bytes>);
    let whole: Message = (
        u64::MAX,
        "text".into(),
        vec![Every::Tuple(1, "x".into()), Every::Unit],
        HashMap::from([(1, Bytes::from_static(b"raw"))]),
    );
    let bytes = encoded(&whole);
    for end in 0..bytes.len() {
        refusal::<Message>(&bytes[..end]);
    }
}

#[test]
fn bad_lengths_and_tags_are_refused() {
    let endless = [0xff; 11];
    assert!(
        refusal::<u64>(&endless)
            .reason()
            .contains("longer than its type")
    );
    assert!(
        refusal::<Vec<u8>>(&endless)
            .reason()
            .contains("longer than its type")
    );
    assert!(
        refusal::<String>(&[5, b'x'])
            .reason()
            .contains("end too early")
    );
    assert!(
        refusal::<Vec<u64>>(&[200, 1])
            .reason()
            .contains("end too early")
    );
    assert!(refusal::<bool>(&[2]).reason().contains("bool"));
    assert!(refusal::<Option<u8>>(&[2, 0]).reason().contains("option"));
    assert!(refusal::<char>(&[1, 0xff]).reason().contains("char"));
    assert!(refusal::<String>(&[1, 0xff]).reason().contains("UTF-8"));
    assert!(refusal::<Every>(&[9]).reason().contains("variant index"));
}

#[test]
fn a_length_reserves_no_more_than_the_input_justifies() {
    thread_local!(static HINT: Cell<Option<usize>> = const { Cell::new(None) });
    struct Trusting;
    impl<'de> Deserialize<'de> for Trusting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Trusting;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("units")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut seq: A,
                ) -> Result<Trusting, A::Error> {
                    HINT.set(seq.size_hint());
                    while seq.next_element::<()>()?.is_some() {}
                    Ok(Trusting)
                }
            }
            deserializer.deserialize_seq(Visitor)
        }
    }
    decode::<Trusting>(&encoded(&60_000u32))
        .map(drop)
        .expect("units take no bytes");
    assert_eq!(HINT.get(), None);
}

/// Encodes, and fails to decode; as [`Refuses`] fails to encode.
#[derive(Debug, Serialize)]
struct OneWay;

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("message raised in child"))
    }
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("message raised in parent"))
    }
}

#[test]
fn the_users_own_messages_are_kept() {
    let error = encode(&vec![Some(Refuses)], &mut Vec::new()).expect_err("it refuses");
    assert_eq!(error.reason(), "message raised in parent");
    let bytes = encoded(&(1u8, Some(OneWay)));
    let error = refusal::<(u8, Option<OneWay>)>(&bytes);
    assert_eq!(error.reason(), "message raised in child");
    assert_eq!(error.position(), Some(2));
    assert!(error.to_string().contains("OneWay"), "{error}");
}

#[test]
fn errors_travel() {
    let error = refusal::<u8>(&[1, 2]);
    round_trip(error);
    round_trip(encode(&Refuses, &mut Vec::new()).expect_err("it refuses"));
}

#[test]
fn what_needs_a_self_describing_format_says_so() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Number { is: u8 },
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        pair: HashMap<String, u8>,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: u8,
    }
    let wanted = "a self-describing format is needed";

    let error = refusal::<Untagged>(&encoded(&Untagged::Number(1)));
    assert!(error.to_string().contains("Untagged") && error.reason().contains(wanted));
    assert!(error.reason().contains("procpool::Json"), "and what helps");
    let error = refusal::<Tagged>(&encoded(&Tagged::Number { is: 1 }));
    assert!(error.to_string().contains("Tagged") && error.reason().contains(wanted));
    let flat = Flat {
        pair: HashMap::new(),
    };
    let error = encode(&flat, &mut Vec::new()).expect_err("no length");
    assert!(error.to_string().contains("Flat") && error.reason().contains(wanted));
    let error = refusal::<Flat>(&[1, 0, 0]);
    assert!(error.to_string().contains("Flat") && error.reason().contains(wanted));

    let skips = Skips {
        first: None,
        second: 1,
    };
    let error = encode(&skips, &mut Vec::new()).expect_err("a field is left out");
    assert!(error.reason().contains("`first`"), "{error}");
    encode(
        &Skips {
            first: Some(1),
            ..skips
        },
        &mut Vec::new(),
    )
    .expect("all fields are there");
}

#[test]
fn neither_end_takes_the_format_for_text() {
    #[derive(Debug, PartialEq)]
    struct Asks;
    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.is_human_readable().serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Asks {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert!(!deserializer.is_human_readable());
            bool::deserialize(deserializer).map(|_| Asks)
        }
    }
    assert_eq!(encoded(&Asks), [0]);
    round_trip(Asks);
}

#[test]
fn a_sequence_that_is_not_read_to_its_end_is_refused() {
    struct First;
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = First;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("numbers")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut seq: A,
                ) -> Result<First, A::Error> {
                    seq.next_element::<u8>().map(|_| First)
                }
            }
            deserializer.deserialize_seq(Visitor)
        }
    }
    assert_eq!(
        refusal::<First>(&[2, 0, 0]).reason(),
        "1 elements were not read"
    );
}

#[test]
fn noise_is_refused_or_decoded_but_never_harmful() {
    type Message = (
        Vec<Every>,
        HashMap<String, Option<List>>,
        Vec<Bytes>,
        Vec<Vec<()>>,
    );
    // xorshift64: the same noise on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = (next() % 64) as usize;
        // Small bytes make plausible lengths and tags, and so get further in.
        let noise: Vec<u8> = (0..length).map(|_| (next() % 7) as u8).collect();
        if let Ok(message) = decode::<Message>(&noise) {
            decode::<Message>(&encoded(&message))
                .map(drop)
                .expect("it was decoded before");
        }
    }
}
