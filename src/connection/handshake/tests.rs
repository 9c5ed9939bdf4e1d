//! Both ends of every handshake, without anything between them; and whoever may stand there.

use super::*;

const MODES: [AuthMode; 3] = [AuthMode::Python, AuthMode::PythonMd5, AuthMode::Procpool];

fn key(text: &str) -> AuthKey {
    AuthKey::new(text).unwrap()
}

/// One end with randomness of its own.
fn end(role: Role, mode: AuthMode, key: &AuthKey) -> Handshake {
    let mut random = [0; RANDOM];
    crate::sys::secret::fill_random(&mut random).unwrap();
    Handshake::new(role, mode, key.clone(), random)
}

/// Has two ends talk until neither says anything more; what came of it for each, and all that was
/// said.
struct Talk {
    listener: Option<Result<(), Distrust>>,
    client: Option<Result<(), Distrust>>,
    said: Vec<Vec<u8>>,
}

fn talk(listener: Handshake, client: Handshake) -> Talk {
    talk_through(listener, client, |_, message| message)
}

/// The same where somebody stands between, who is given the number of each message.
fn talk_through(
    mut listener: Handshake,
    mut client: Handshake,
    between: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) -> Talk {
    assert_eq!(client.opening(), None, "the listener speaks first");
    let mut talk = Talk {
        listener: None,
        client: None,
        said: Vec::new(),
    };
    let opening = listener.opening();
    let mut on_its_way = opening.map(|message| (Role::Client, message));
    while let Some((to, message)) = on_its_way.take() {
        assert!(message.len() <= LONGEST);
        let (end, verdict, other) = match to {
            Role::Client => (&mut client, &mut talk.client, Role::Listener),
            Role::Listener => (&mut listener, &mut talk.listener, Role::Client),
        };
        if verdict.is_some() {
            break;
        }
        let message = between(talk.said.len(), message);
        let step = end.hear(&message);
        talk.said.push(message);
        *verdict = step.verdict;
        on_its_way = step.say.map(|message| (other, message));
    }
    talk
}

fn distrust(step: Step) -> Distrust {
    step.verdict.expect("an end").expect_err("a bad one")
}

#[test]
fn ends_of_one_key_and_mode_trust_each_other() {
    for mode in MODES {
        let key = key("secret password");
        let talk = talk(
            end(Role::Listener, mode, &key),
            end(Role::Client, mode, &key),
        );
        assert_eq!((talk.listener, talk.client), (Some(Ok(())), Some(Ok(()))));
        let messages = if mode == AuthMode::Procpool { 3 } else { 6 };
        assert_eq!(talk.said.len(), messages);
    }
}

/// CF-259.
#[test]
fn ends_of_two_keys_do_not() {
    for mode in MODES {
        let listener = end(Role::Listener, mode, &key("one"));
        let talk = talk(listener, end(Role::Client, mode, &key("two")));
        assert_eq!(talk.listener, Some(Err(Distrust::WrongAnswer)));
        assert_eq!(talk.client, Some(Err(Distrust::Rejected)));
    }
}

/// CF-259. Whatever is changed, cut off or added in any one message, somebody notices.
#[test]
fn every_message_counts_to_the_last_byte() {
    for mode in MODES {
        let key = key("secret password");
        let random = [7; RANDOM];
        let ends = || {
            let new = |role| Handshake::new(role, mode, key.clone(), random);
            (new(Role::Listener), new(Role::Client))
        };
        let (listener, client) = ends();
        let said = talk(listener, client).said;
        for (turn, message) in said.iter().enumerate() {
            let cut = (0..message.len()).map(|length| message[..length].to_vec());
            let changed = (0..message.len()).map(|place| {
                let mut changed = message.clone();
                changed[place] ^= 1;
                changed
            });
            let longer = std::iter::once([message, &b"x"[..]].concat());
            for wrong in cut.chain(changed).chain(longer) {
                let (listener, client) = ends();
                let talk = talk_through(listener, client, |number, message| {
                    if number == turn {
                        wrong.clone()
                    } else {
                        message
                    }
                });
                let both = talk.listener == Some(Ok(())) && talk.client == Some(Ok(()));
                assert!(!both, "{mode:?}: {turn}: {}", wrong.escape_ascii());
            }
        }
    }
}

/// CF-259: an answer that is none, and a challenger who does not confirm.
#[test]
fn something_bogus_is_refused() {
    for mode in MODES {
        let mut listener = end(Role::Listener, mode, &key("key"));
        let step = listener.hear(b"something bogus");
        assert_eq!(step.say.as_deref(), Some(FAILURE));
        assert!(matches!(distrust(step), Distrust::Unexpected(_)));
        // Also if it comes twice, or what is right comes then.
        assert!(listener.hear(b"something bogus").verdict.unwrap().is_err());
    }
    let mut client = end(Role::Client, AuthMode::Python, &key("key"));
    let challenge = end(Role::Listener, AuthMode::Python, &key("key")).opening();
    assert_eq!(client.hear(&challenge.unwrap()).verdict, None);
    let step = client.hear(b"something bogus");
    assert_eq!(distrust(step), Distrust::Unexpected("a welcome"));
}

/// CF-260. Of what Python could name, that which no Python asks for by itself is left out.
#[test]
fn a_challenge_names_its_digest_and_so_does_the_answer() {
    let key = key("abc");
    for (name, digest) in [
        ("sha256", mac::Digest::Sha256),
        ("sha384", mac::Digest::Sha384),
    ] {
        let message = format!("{{{name}}}and some forty bytes that are not random");
        let mut client = end(Role::Client, AuthMode::Python, &key);
        let answer = client
            .hear(format!("#CHALLENGE#{message}").as_bytes())
            .say
            .unwrap();
        let code = answer
            .strip_prefix(format!("{{{name}}}").as_bytes())
            .unwrap();
        assert!(digest.verify(&key, &[message.as_bytes()], code));
        assert!(!digest.verify(&self::key("abcd"), &[message.as_bytes()], code));
    }
    for name in ["crc32", "sha3_256", "", "\u{7}"] {
        let mut client = end(Role::Client, AuthMode::PythonMd5, &key);
        let challenge = format!("#CHALLENGE#{{{name}}}and some forty bytes that are not random");
        let why = distrust(client.hear(challenge.as_bytes()));
        assert!(matches!(why, Distrust::UnknownDigest(_)), "{why}");
    }
}

/// As CPython 3.11 computes it: `hmac.new(b"abc", bytes(range(20)), "md5").hexdigest()`.
#[test]
fn md5_is_for_those_who_ask_for_it() {
    const CODE: [u8; 16] = 0x1b37_3176_a84c_1b04_4d9b_a097_95b5_3791_u128.to_be_bytes();
    let key = key("abc");
    let message: Vec<u8> = (0..20).collect();
    let challenge = [&b"#CHALLENGE#"[..], &message].concat();
    let mut strict = end(Role::Client, AuthMode::Python, &key);
    assert_eq!(distrust(strict.hear(&challenge)), Distrust::Md5);
    let mut lenient = end(Role::Client, AuthMode::PythonMd5, &key);
    assert_eq!(lenient.hear(&challenge).say.as_deref(), Some(&CODE[..]));
    // And what an older Python says to a challenge with a name.
    for (mode, verdict) in [
        (AuthMode::PythonMd5, None),
        (AuthMode::Python, Some(Err(Distrust::Md5))),
    ] {
        let mut listener = end(Role::Listener, mode, &key);
        let asked = listener.opening().unwrap();
        let asked = asked.strip_prefix(b"#CHALLENGE#").unwrap();
        let step = listener.hear(&mac::Digest::Md5.sign(&key, &[asked]));
        assert_eq!(step.verdict, verdict);
    }
    let mut short = end(Role::Client, AuthMode::PythonMd5, &key);
    let why = distrust(short.hear(&challenge[..challenge.len() - 1]));
    assert_eq!(why, Distrust::Unexpected("a challenge"));
}

#[test]
fn ends_of_two_modes_say_so() {
    let key = key("key");
    for (listener, client) in [
        (AuthMode::Python, AuthMode::Procpool),
        (AuthMode::Procpool, AuthMode::Python),
    ] {
        let talk = talk(
            end(Role::Listener, listener, &key),
            end(Role::Client, client, &key),
        );
        let why = talk.client.unwrap().unwrap_err();
        assert!(matches!(why, Distrust::OtherMode(_)), "{why}");
        assert_eq!(talk.listener, None);
    }
}

/// Two clients connect to whoever has no key. He shows the one what the other has answered.
fn between_two_clients(mode: AuthMode) -> Vec<Result<(), Distrust>> {
    let key = key("key");
    let [mut one, mut other] = [(); 2].map(|()| end(Role::Client, mode, &key));
    // What a listener of that mode would begin with, of his own making.
    let opening = end(Role::Listener, mode, &self::key("his own")).opening();
    let mut verdicts = Vec::new();
    let mut tell = |to: &mut Handshake, what: &[u8]| {
        let step = to.hear(what);
        verdicts.extend(step.verdict);
        step.say
    };
    let answer = tell(&mut one, &opening.unwrap()).unwrap();
    match mode {
        AuthMode::Procpool => {
            // The code of a client, for one who waits for that of a listener.
            let code = answer[answer.len() - 32..].to_vec();
            tell(&mut one, &code);
        }
        _ => {
            // He welcomes whatever it was, is challenged, and hands that on as his own challenge.
            let challenge = tell(&mut one, b"#WELCOME#").unwrap();
            let answer = tell(&mut other, &challenge).unwrap();
            tell(&mut one, &answer);
        }
    }
    verdicts
}

/// In the mode that names roles, no answer is of use in another place.
#[test]
fn an_answer_that_is_held_up_as_a_mirror_proves_nothing() {
    let verdicts = between_two_clients(AuthMode::Procpool);
    assert_eq!(verdicts, [Err(Distrust::WrongAnswer)]);
    // A client's own nonce and code, given back to a listener that has asked something else.
    let key = key("key");
    let mut asked = end(Role::Client, AuthMode::Procpool, &key);
    let mut listener = end(Role::Listener, AuthMode::Procpool, &key);
    let earlier = end(Role::Listener, AuthMode::Procpool, &key).opening();
    let proof = asked.hear(&earlier.unwrap()).say.unwrap();
    assert_eq!(distrust(listener.hear(&proof)), Distrust::WrongAnswer);
}

/// What the documentation of `AuthMode::Python` warns of is so: this is the protocol's weakness.
#[test]
fn pythons_handshake_can_be_passed_by_a_mirror() {
    assert_eq!(between_two_clients(AuthMode::Python), [Ok(())]);
}
