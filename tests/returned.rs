//! What tasks can return that does not travel by itself: errors of any kind, and values whose types
//! need a format that describes itself.

mod support;

use std::error::Error;

use procpool::{ProcessPool, RemoteError};
use support::{everywhere, pool};

fn read(path: String) -> Result<String, RemoteError> {
    let read = std::fs::read_to_string(&path);
    read.map_err(|error| RemoteError::from(error).context(format!("could not read {path}")))
}

fn parse(text: String) -> Result<i32, RemoteError> {
    Ok(text.parse::<i32>()?)
}

/// What a caller writes whose own errors are boxed.
async fn parsed(pool: &ProcessPool, text: &str) -> Result<i32, Box<dyn Error + Send + Sync>> {
    Ok(pool.submit(parse, text.to_owned()).await??)
}

#[test]
fn a_task_returns_any_error_by_the_question_mark() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(parsed(&pool, "17").await.unwrap(), 17);
        let error = parsed(&pool, "x").await.unwrap_err();
        assert_eq!(error.to_string(), "invalid digit found in string");

        let error = pool.submit(read, "/nowhere".to_owned()).await.unwrap();
        let error = error.unwrap_err();
        assert_eq!(error.message(), "could not read /nowhere");
        assert_eq!(error.chain().count(), 2);
        let whole = format!("{error:#}");
        assert!(
            whole.starts_with("could not read /nowhere: No such file"),
            "{whole}"
        );
        pool.shutdown().await;
    });
}

#[test]
fn the_backtrace_is_the_workers_and_comes_when_it_is_asked_for() {
    everywhere(|method| async move {
        for (asked, variable) in [(true, "1"), (false, "0")] {
            let pool = ProcessPool::builder()
                .workers(1)
                .start_method(method)
                .env("RUST_LIB_BACKTRACE", variable)
                .build()
                .unwrap();
            let error = pool
                .submit(parse, "x".to_owned())
                .await
                .unwrap()
                .unwrap_err();
            let names_the_task = error
                .backtrace()
                .is_some_and(|frames| frames.contains("parse"));
            assert_eq!(names_the_task, asked, "{error:?}");
            pool.shutdown().await;
        }
    });
}

#[cfg(feature = "anyhow")]
#[test]
fn a_caller_with_anyhow_writes_two_question_marks() {
    async fn parsed(pool: &ProcessPool, text: &str) -> anyhow::Result<i32> {
        Ok(pool.submit(parse, text.to_owned()).await??)
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(parsed(&pool, "17").await.unwrap(), 17);
        let error = parsed(&pool, "x").await.unwrap_err();
        assert_eq!(format!("{error:#}"), "invalid digit found in string");
        pool.shutdown().await;
    });
}

#[cfg(feature = "json")]
#[test]
fn a_json_value_travels_in_its_wrapper_and_an_error_without_it_says_so() {
    use procpool::Json;
    use serde_json::{Value, json};

    fn wrapped(Json(mut value): Json<Value>) -> Json<Value> {
        value["pid"] = json!(std::process::id());
        Json(value)
    }
    fn bare(value: Value) -> usize {
        value.to_string().len()
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        let value = json!({ "nested": [null, { "deep": 1.5 }] });
        let answer = pool.submit(wrapped, Json(value.clone())).await.unwrap();
        assert_eq!(answer["nested"], value["nested"]);
        assert_ne!(answer["pid"], json!(std::process::id()));

        let error = pool.submit(bare, value).await.unwrap_err();
        assert!(error.is_decode(), "{error}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("serde_json::value::Value"), "{cause}");
        assert!(cause.contains("procpool::Json"), "{cause}");
        pool.shutdown().await;
    });
}
