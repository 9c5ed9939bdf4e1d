//! What a process knows of itself and a worker shares with its program.

use std::fs;

/// Facts by their names.
pub type Facts = Vec<(String, String)>;

/// Collects the facts of this process.
pub fn facts() -> Facts {
    let named = |name: &str, value: String| (name.to_owned(), value);
    let directory = std::env::current_dir().map(|path| path.display().to_string());
    let mut facts = vec![
        named("arguments", format!("{:?}", std::env::args_os())),
        named("directory", directory.unwrap_or_default()),
        named("standard output", descriptor(1)),
        named("standard error", descriptor(2)),
    ];
    let mut variables: Vec<_> = std::env::vars().collect();
    // The program itself may have been given one of that name, which named nobody.
    variables.retain(|(name, _)| name != "PROCPOOL_BOOT");
    variables.sort_unstable();
    facts.extend(variables);
    facts
}

/// What a standard descriptor stands for. One that is closed in the program is `/dev/null` in a
/// worker, even if by now its number is that of something else, a reactor or a socket.
pub(crate) fn descriptor(number: i32) -> String {
    let target = fs::read_link(format!("/proc/self/fd/{number}"));
    let target = target.map(|target| target.display().to_string());
    let is_stream = |target: &String| {
        !["anon_inode:", "socket:"]
            .iter()
            .any(|kind| target.starts_with(kind))
    };
    target
        .ok()
        .filter(is_stream)
        .unwrap_or_else(|| "/dev/null".to_owned())
}
