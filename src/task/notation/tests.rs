//! Every form that `call!` takes, run to its result.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::task::Call;
use crate::task::entry::{Argument, Sink, Verdict, run};
use crate::wire::packed::Packed;

struct Result(Option<Vec<u8>>);

impl Sink for Result {
    fn publish(&mut self, verdict: Verdict<'_>) {
        match verdict {
            Verdict::Returned(bytes, ..) => self.0 = Some(bytes.to_vec()),
            other => panic!("{other:?}"),
        }
    }
}

/// What the call returns when it is run.
fn value<R: Serialize + DeserializeOwned>(call: Call<R>) -> R {
    let parts = call.into_parts();
    let target = parts.target.expect("it is a function of this program");
    let argument = parts.argument.expect("the arguments can be encoded");
    let mut result = Result(None);
    run(
        target,
        Argument::taken_from(&argument),
        &mut Vec::new(),
        &mut result,
    )
    .expect("this is its program");
    let result = Packed::copy_of(&result.0.expect("the sink is told"));
    (parts.decode)(&result).expect("the result decodes")
}

fn seven() -> u8 {
    7
}
fn double(n: i32) -> i32 {
    n * 2
}
fn join(a: String, b: String) -> String {
    a + &b
}
fn parse<T: std::str::FromStr>(text: String) -> Option<T> {
    text.parse().ok()
}
fn sum_of_owned(values: Vec<u64>) -> u64 {
    values.iter().sum()
}
fn sum_of_slice(values: &[u64]) -> u64 {
    values.iter().sum()
}
#[expect(clippy::ptr_arg, reason = "a reference to just this is what is tried")]
fn sum_of_ref(values: &Vec<u64>) -> u64 {
    values.iter().sum()
}

mod deep {
    pub(super) mod deeper {
        pub(crate) fn less(a: u8, b: u8) -> bool {
            a < b
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Image {
    width: u32,
}

impl Image {
    fn new(width: u32) -> Self {
        Self { width }
    }
    fn widened(self, by: u32) -> Self {
        Self {
            width: self.width + by,
        }
    }
    fn width(&self) -> u32 {
        self.width
    }
}

trait Scale {
    fn scale(self, by: u32) -> Self;
    fn unit() -> Self;
}

impl Scale for u32 {
    fn scale(self, by: u32) -> u32 {
        self * by
    }
    fn unit() -> u32 {
        1
    }
}

#[test]
fn functions_are_named_in_every_way() {
    assert_eq!(value(call!(seven())), 7);
    assert_eq!(value(call!(double(21))), 42);
    assert!(value(call!(deep::deeper::less(1, 2))));
    assert!(value(call!(self::deep::deeper::less(1, 2,))));
    assert_eq!(value(call!(parse::<u32>("12".to_owned()))), Some(12));
    assert_eq!(value(call!(parse::<HashSet>("x".to_owned()))), None);
    assert_eq!(value(call!(Image::new(3))), Image { width: 3 });
    assert_eq!(
        value(call!(Image::widened(Image::new(3), 4))),
        Image { width: 7 }
    );
    assert_eq!(value(call!(<u32 as Scale>::scale(2, 5))), 10);
    assert_eq!(value(call!(Scale::scale(2u32, 5))), 10);
    assert_eq!(value(call!(u32::scale(2, 5))), 10);
    assert_eq!(value(call!(<u32 as Scale>::unit())), 1);
    assert_eq!(value(call!(Some(5u8))), Some(5));
    assert_eq!(value(call!(u32::pow(2, 10))), 1024);
    assert_eq!(value(call!((|a: u8, b: u8| a ^ b)(1, 3))), 2);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HashSet;
impl std::str::FromStr for HashSet {
    type Err = ();
    fn from_str(_: &str) -> std::result::Result<Self, ()> {
        Err(())
    }
}

#[test]
fn function_pointers_are_called_too() {
    let local: fn(i32) -> i32 = double;
    assert_eq!(value(call!(local(4))), 8);
    let table: [fn(i32) -> i32; 2] = [double, |n| n - 1];
    assert_eq!(value(call!(table[1](4))), 3);
    struct Holder {
        chosen: fn(i32) -> i32,
    }
    let holder = Holder { chosen: double };
    assert_eq!(value(call!((holder.chosen)(4))), 8);
}

#[test]
fn arguments_are_any_expressions_and_infer_as_in_the_call() {
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(value(call!(join(a, b))), "ab");
    assert_eq!(value(call!(join("a".into(), Default::default()))), "a");
    assert_eq!(value(call!(double(if seven() > 3 { 1 } else { 2 } + 1))), 4);
    assert_eq!(value(call!(sum_of_owned((1..4).collect()))), 6);
    assert_eq!(value(call!(double(i32::from(1u8)))), 2);
    fn count(map: HashMap<String, Vec<u8>>) -> usize {
        map.len()
    }
    assert_eq!(
        value(call!(count(HashMap::from([("x".to_owned(), vec![])])))),
        1
    );
    fn inner() -> Option<Call<i32>> {
        Some(call!(double(None?)))
    }
    assert!(inner().is_none());
}

#[test]
fn up_to_eight_arguments() {
    type N = u8;
    fn three(a: N, b: N, c: N) -> Vec<N> {
        vec![a, b, c]
    }
    fn four(a: N, b: N, c: N, d: N) -> Vec<N> {
        vec![a, b, c, d]
    }
    fn five(a: N, b: N, c: N, d: N, e: N) -> Vec<N> {
        vec![a, b, c, d, e]
    }
    fn six(a: N, b: N, c: N, d: N, e: N, f: N) -> Vec<N> {
        vec![a, b, c, d, e, f]
    }
    fn seven(a: N, b: N, c: N, d: N, e: N, f: N, g: N) -> Vec<N> {
        vec![a, b, c, d, e, f, g]
    }
    #[expect(clippy::too_many_arguments, reason = "that many are tried")]
    fn eight(a: N, b: N, c: N, d: N, e: N, f: &N, g: N, h: N) -> Vec<N> {
        vec![a, b, c, d, e, *f, g, h]
    }
    assert_eq!(value(call!(three(1, 2, 3))), [1, 2, 3]);
    assert_eq!(value(call!(four(1, 2, 3, 4))), [1, 2, 3, 4]);
    assert_eq!(value(call!(five(1, 2, 3, 4, 5))), [1, 2, 3, 4, 5]);
    assert_eq!(value(call!(six(1, 2, 3, 4, 5, 6))), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        value(call!(seven(1, 2, 3, 4, 5, 6, 7))),
        [1, 2, 3, 4, 5, 6, 7]
    );
    let lent = 6;
    let call = call!(eight(1, 2, 3, 4, 5, &lent, 7, 8));
    assert_eq!(value(call), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn lent_arguments_stay_and_arrive_as_the_function_wants_them() {
    let values = vec![1, 2, 3];
    assert_eq!(value(call!(sum_of_owned(&values))), 6);
    assert_eq!(value(call!(sum_of_slice(&values))), 6);
    assert_eq!(value(call!(sum_of_ref(&values,))), 6);
    assert_eq!(value(call!(sum_of_ref(&vec![4, 5]))), 9);
    assert_eq!(values.len(), 3);

    let image = Image::new(3);
    assert_eq!(value(call!(Image::width(&image))), 3);
    assert_eq!(value(call!(Image::widened(&image, 2))), Image { width: 5 });
    assert_eq!(image.width, 3);

    fn describe(prefix: u8, name: &str, path: &Path, boxed: &u8, rest: Vec<u8>) -> String {
        format!("{prefix}{name}{}{boxed}{rest:?}", path.display())
    }
    let (name, path, boxed) = ("n".to_owned(), PathBuf::from("/p"), Box::new(9));
    let call = call!(describe(1, &name, &path, &boxed, vec![2]));
    assert_eq!(value(call), "1n/p9[2]");
}

#[test]
fn a_lent_reference_is_sent_as_what_it_refers_to() {
    fn later(values: &Vec<u64>) -> Call<u64> {
        call!(sum_of_slice(&*values))
    }
    assert_eq!(value(later(&vec![1, 2])), 3);
}

#[test]
fn a_generic_function_can_make_calls_of_its_own_parameter() {
    fn make<T: Scale + Serialize + DeserializeOwned>(value: T) -> Call<T> {
        call!(<T as Scale>::scale(&value, 3))
    }
    assert_eq!(value(make(5u32)), 15);
}

#[test]
fn a_call_is_send_and_sync_whatever_it_returns() {
    fn is<T: Send + Sync + 'static>(_: &T) {}
    fn local() -> std::cell::RefCell<u8> {
        std::cell::RefCell::new(1)
    }
    let call = call!(local());
    is(&call);
    assert_eq!(value(call).into_inner(), 1);
}

#[test]
fn what_cannot_be_encoded_is_kept_for_whoever_runs_the_call() {
    #[derive(Deserialize)]
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("message raised in parent"))
        }
    }
    fn take(_: Refuses) {}
    let parts = call!(take(Refuses)).into_parts();
    let error = parts.argument.expect_err("it refuses");
    assert_eq!(error.reason(), "message raised in parent");
    assert!(error.type_name().ends_with("Refuses"));
}
