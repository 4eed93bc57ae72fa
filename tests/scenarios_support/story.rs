//! Plays one file.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::table::transcript::{Transcript, difference};
use crate::table::words::Words;
use crate::table::world::World;
use crate::table::{command, setup};

/// What came of a file.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// As written.
    Same,
    /// Something else happened: the difference, and the file as it would be right.
    Different { report: String, rewritten: String },
    /// It cannot be: a command that does not exist or fails, a violation, a panic. Never to be written down as right.
    Wrong(String),
}

/// Plays the file called `name`, whose text is this.
pub(crate) fn play(name: &str, text: &str) -> Outcome {
    let mut transcript = match Transcript::parse(text) {
        Ok(transcript) => transcript,
        Err((line, error)) => return Outcome::Wrong(format!("{name}:{line}: {error}")),
    };
    let mut world = None;
    let mut report = String::new();
    for block in &mut transcript.blocks {
        let mut output = Vec::new();
        for (line, command) in &block.commands {
            let ran = run(&mut world, command);
            output.extend(world.iter_mut().flat_map(|world| world.notation.take()));
            if let Err(error) = ran {
                let so_far: String = output.iter().map(|line| format!("  + {line}\n")).collect();
                return Outcome::Wrong(format!("{report}{name}:{line}: {command}: {error}\n{so_far}"));
            }
        }
        if output != block.output {
            let line = block.output_line;
            report += &format!("{name}:{line}:\n{}", difference(&block.output, &output));
            block.output = output;
        }
    }
    let rewritten = transcript.render();
    if rewritten == text { Outcome::Same } else { Outcome::Different { report, rewritten } }
}

/// Runs a command; what the judges find is an error, and so is a panic.
fn run(world: &mut Option<World>, line: &str) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| match world {
        Some(world) => command::run(world, line),
        None => found(line).map(|founded| *world = Some(founded)),
    }));
    let violations = world.as_mut().map(|world| world.judge.take()).unwrap_or_default();
    match ran {
        Err(panic) => Err(format!("panicked: {}", message_of(panic.as_ref()))),
        Ok(_) if !violations.is_empty() => Err(format!("violation: {}", violations.join("; "))),
        Ok(result) => result,
    }
}

/// The first command of every file.
fn found(line: &str) -> Result<World, String> {
    let mut words = Words::of(line);
    if words.take() != Some("cluster") {
        return Err("the first command must be `cluster`".to_owned());
    }
    setup::cluster(&mut words)
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match play("planted", text) {
            Outcome::Wrong(error) => error,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_command_that_cannot_be_is_refused_with_its_line() {
        for (command, says) in [
            ("dance n1", "`dance` is no command"),
            ("pass 3", "`3` is not a time"),
            ("pass 1s 2s", "one word too many"),
            ("crash n9", "there is no n9"),
            ("hold n1 -> n2 Apend", "`Apend` is no kind of message"),
            ("within 1E n1 sleeps", "`sleeps` is no condition"),
        ] {
            let found = error(&format!("# A story.\n> cluster 3\n> {command}\n"));
            assert!(found.starts_with("planted:3: ") && found.contains(says), "{found}");
        }
        assert!(error("# A story.\n> pass 1s\n").contains("the first command must be `cluster`"));
    }

    #[test]
    fn what_really_happened_is_written_down_and_then_the_same() {
        let text = "# A story.\n\n> cluster 1\n> elect n1 quietly\n> status\nn1 sleeps\n";
        let Outcome::Different { report, rewritten } = play("planted", text) else { panic!("{:?}", play("", text)) };
        assert!(report.starts_with("planted:6:\n  - n1 sleeps\n  + n1 Leader t2"), "{report}");
        assert!(matches!(play("planted", &rewritten), Outcome::Same));
    }
}
