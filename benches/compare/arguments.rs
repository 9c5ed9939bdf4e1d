//! What the command line asks for.

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Whether everything works: each workload once, as small as can be. That is what `cargo test` asks for.
    Trial,
    /// Within a minute.
    Quick,
    /// Until the figures stand still.
    Full,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) care: Care,
    /// Print the names of the workloads, and measure nothing.
    pub(crate) list: bool,
    /// Only workloads whose name has one of these in it; all where there is none.
    names: Vec<String>,
}

impl Arguments {
    /// Reads the arguments that follow the program's name.
    ///
    /// `cargo bench` adds `--bench` and `cargo test` does not. What the latter passes on is meant for tests,
    /// and nothing there is an error: filters and what they select by choose among the workloads.
    ///
    /// # Errors
    ///
    /// An option of ours that there is not.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let given = |option: &str| arguments.iter().any(|argument| argument == option);
        let measure = given("--bench");
        let care = match given("--quick") {
            true => Care::Quick,
            false if measure => Care::Full,
            false => Care::Trial,
        };
        let (options, names): (Vec<_>, Vec<_>) = arguments
            .iter()
            .cloned()
            .partition(|argument| argument.starts_with('-'));
        let known = ["--bench", "--quick", "--list"];
        let unknown = options.iter().find(|option| !known.contains(&&***option));
        match unknown {
            Some(option) if measure => Err(format!("there is no option {option}")),
            _ => Ok(Self {
                care,
                list: given("--list"),
                names,
            }),
        }
    }

    pub(crate) fn select(&self, workload: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| workload.contains(&**name))
    }
}
