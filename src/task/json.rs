//! Values whose types ask for a format that describes itself, as JSON texts.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeOwned, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Carries a value as a JSON text, for types that the crate's own encoding cannot carry.
///
/// Arguments and results are encoded without field names and without type tags, as postcard does
/// it. That is fast and small, and some types cannot be read from it: `serde_json::Value`, and
/// whatever has the serde attributes `flatten`, `untagged` or `tag`. In a `Json` they can be
/// arguments, results, or parts of them. What JSON cannot carry stays behind there: maps have keys
/// that are texts or numbers, and floating-point numbers are finite.
///
/// Within a format that people read (JSON itself, say) it is the value and nothing around it.
///
/// ```
/// use procpool::Json;
/// use serde_json::{Value, json};
///
/// fn keys(Json(value): Json<Value>) -> Json<Value> {
///     let keys: Vec<_> = value.as_object().into_iter().flatten().map(|(key, _)| key).collect();
///     Json(json!({ "keys": keys }))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let Json(answer) = pool.submit(keys, Json(json!({ "a": 1, "b": [2] }))).await?;
/// assert_eq!(answer["keys"], json!(["a", "b"]));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let text = serde_json::to_vec(&self.0).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Self);
        }
        deserializer.deserialize_bytes(Text(PhantomData))
    }
}

/// Reads a `T` from a JSON text.
struct Text<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for Text<T> {
    type Value = Json<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON text")
    }

    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<Json<T>, E> {
        serde_json::from_slice(text).map(Json).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::task::payload::{decode, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }

    fn there_and_back<T: Serialize + DeserializeOwned>(value: T) -> T {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes).unwrap();
        decode(&bytes).unwrap()
    }

    #[test]
    fn what_needs_a_format_that_describes_itself_comes_back_as_it_was() {
        let value = Json(json!({ "list": [1, null, "two"], "inner": { "π": 3.5 } }));
        assert_eq!(there_and_back(value.clone()), value);
        let rest = BTreeMap::from([("extra".to_owned(), json!(true))]);
        let beside = (7_u8, Json(Flat { id: 1, rest }), "after".to_owned());
        let (before, flat, after) = there_and_back(beside);
        assert_eq!((before, after.as_str()), (7, "after"));
        assert_eq!(flat.rest["extra"], json!(true));
        let both = Json(vec![Either::Number(-1), Either::Text("x".to_owned())]);
        assert_eq!(there_and_back(both).len(), 2);
    }

    #[test]
    fn within_json_it_is_the_value_alone() {
        let text = serde_json::to_string(&(1, Json(json!({ "a": 2 })))).unwrap();
        assert_eq!(text, r#"[1,{"a":2}]"#);
        let (_, back): (u8, Json<Value>) = serde_json::from_str(&text).unwrap();
        assert_eq!(back["a"], json!(2));
    }

    #[test]
    fn what_is_no_such_value_says_so_in_json_s_own_words() {
        let mut bytes = Vec::new();
        encode(&Json("text"), &mut bytes).unwrap();
        let error = decode::<Json<u32>>(&bytes).unwrap_err();
        assert!(error.reason().contains("invalid type: string"), "{error}");
        assert!(error.type_name().contains("Json<u32>"), "{error}");
        let keys = BTreeMap::from([(vec![1], 2)]);
        let error = encode(&Json(keys), &mut bytes).unwrap_err();
        assert!(error.reason().contains("key must be a string"), "{error}");
    }
}
