//! How the environment of a child differs from the program's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::sys::start;

/// Changes to an inherited environment; the last word about a variable holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Nothing is inherited.
    cleared: bool,
    /// Variables with their values, and those that are removed.
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl Environment {
    /// Sets a variable.
    pub(crate) fn set(&mut self, key: OsString, value: OsString) {
        self.changes.insert(key, Some(value));
    }

    /// Removes a variable, inherited or set.
    pub(crate) fn remove(&mut self, key: OsString) {
        self.changes.insert(key, None);
    }

    /// Removes all variables, inherited or set.
    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.changes.clear();
    }

    /// Whether the system could carry these names and values.
    pub(crate) fn is_possible(&self) -> bool {
        let has = |text: &OsStr, byte| text.as_encoded_bytes().contains(&byte);
        self.changes.iter().all(|(key, value)| {
            let value = value.as_deref().unwrap_or_default();
            !key.is_empty() && !has(key, b'=') && !has(key, 0) && !has(value, 0)
        })
    }

    /// Makes the changes in this process, which must have no other thread.
    pub(crate) fn take_on(&self) -> io::Result<()> {
        let cleared = std::env::vars_os().filter(|_| self.cleared);
        let cleared = cleared.map(|(key, _)| (key, None));
        let changes = self.changes.iter();
        let changes = changes.map(|(key, value)| (key.clone(), value.clone()));
        start::change_environment(cleared.chain(changes).collect())
    }

    /// Makes the changes in what a command is to have.
    pub(super) fn apply(&self, command: &mut Command) {
        if self.cleared {
            command.env_clear();
        }
        for (key, value) in &self.changes {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_variable_holds() {
        let mut environment = Environment::default();
        environment.set("A".into(), "1".into());
        environment.clear();
        environment.set("B".into(), "2".into());
        environment.remove("C".into());
        environment.set("C".into(), "3".into());
        environment.remove("B".into());
        let mut command = Command::new("none");
        command.env("D", "4");
        environment.apply(&mut command);
        let left: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_some())
            .collect();
        assert_eq!(left, [(OsStr::new("C"), Some(OsStr::new("3")))]);
    }

    #[test]
    fn names_and_values_that_no_system_carries_are_known() {
        let set = |key: &str, value: &str| {
            let mut environment = Environment::default();
            environment.set(key.into(), value.into());
            environment.is_possible()
        };
        assert!(set("A", "") && set("A", "=x"));
        assert!(!set("", "x") && !set("A=B", "x") && !set("A\0", "x") && !set("A", "\0"));
        let mut environment = Environment::default();
        environment.remove("A=B".into());
        assert!(!environment.is_possible());
    }
}
