//! A worker is killed at every byte of its response: what is torn is never taken for whole, and
//! what lies in the page is whole wherever the pipe breaks off.

use super::{Subject, with_every_method};
use crate::wire::frame::HEADER;
use crate::worker::stand_in::script::Script;

/// What a stub answers with, and nobody else.
fn nothing(_: Vec<u8>) -> Vec<u8> {
    Vec::new()
}

/// Of a response of some three hundred bytes.
const PAYLOAD: usize = 270;

/// Tears one response after the other, each a byte later than the one before, until some are
/// whole; returns the number of those that were lost.
async fn tear(subject: &Subject) -> usize {
    let payload: Vec<u8> = (0..PAYLOAD).map(|n| n as u8).collect();
    let mut lost = 0;
    for at in 0..HEADER + PAYLOAD + 8 {
        let call = subject.pool.submit(nothing, payload.clone());
        match subject.in_time(call).await {
            Ok(answer) => assert_eq!(answer, payload, "at {at}"),
            Err(error) => {
                let exit = error.worker_exit().expect("an exit").exit();
                assert_eq!(exit.signal(), Some(libc::SIGKILL), "at {at}: {error}");
                assert_eq!(at, lost, "a whole one came before this");
                lost += 1;
            }
        }
    }
    lost
}

/// Row 11: the pipe is all that there is.
#[tokio::test]
async fn a_response_that_is_torn_at_any_byte_costs_its_call() {
    with_every_method(|method| async move {
        let script = Script::Tear {
            shown: false,
            at: 0,
        };
        let subject = Subject::new(script.for_all(), method, |builder| builder);
        // All but those that were written to the last byte: the header, the length of the bytes,
        // which takes two, and the bytes.
        assert_eq!(tear(&subject).await, HEADER + 2 + PAYLOAD, "{method}");
        subject.ends().await;
    })
    .await;
}

/// Row 11: a finished response is in the page before it is in the pipe.
#[tokio::test]
async fn a_finished_response_is_delivered_wherever_the_pipe_breaks_off() {
    with_every_method(|method| async move {
        let script = Script::Tear { shown: true, at: 0 };
        let subject = Subject::new(script.for_all(), method, |builder| builder);
        assert_eq!(tear(&subject).await, 0, "{method}");
        subject.ends().await;
    })
    .await;
}
