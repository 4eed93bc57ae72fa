//! The file: stories in blocks. A block is comments (`# ..`), then commands (`> ..`), then what they print, then a blank
//! line.

/// A whole file.
pub(crate) struct Transcript {
    pub(crate) blocks: Vec<Block>,
}

/// Commands and what came of them.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) comments: Vec<String>,
    /// Each with the number of its line.
    pub(crate) commands: Vec<(usize, String)>,
    pub(crate) output: Vec<String>,
    /// The line at which the output starts.
    pub(crate) output_line: usize,
}

impl Transcript {
    /// Reads a file. The error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut blocks = vec![Block::default()];
        for (line, number) in text.lines().zip(1..) {
            let newest = blocks.len() - 1;
            let block = &mut blocks[newest];
            if line.trim().is_empty() {
                if !block.is_empty() {
                    blocks.push(Block::default());
                }
            } else if let Some(command) = line.strip_prefix("> ") {
                if !block.output.is_empty() {
                    return Err((number, "a blank line must stand before the next command".to_owned()));
                }
                block.commands.push((number, command.to_owned()));
                block.output_line = number + 1;
            } else if line.starts_with('#') {
                if !block.commands.is_empty() {
                    return Err((number, "comments stand before the commands of a block".to_owned()));
                }
                block.comments.push(line.to_owned());
            } else if block.commands.is_empty() {
                return Err((number, "output without a command".to_owned()));
            } else {
                block.output.push(line.to_owned());
            }
        }
        blocks.retain(|block| !block.is_empty());
        match blocks.first() {
            Some(first) if !first.comments.is_empty() => Ok(Self { blocks }),
            _ => Err((1, "the first line must be a comment that says what the story is about".to_owned())),
        }
    }

    pub(crate) fn render(&self) -> String {
        self.blocks.iter().map(Block::render).collect::<Vec<_>>().join("\n")
    }
}

impl Block {
    fn is_empty(&self) -> bool {
        self.comments.is_empty() && self.commands.is_empty()
    }

    fn render(&self) -> String {
        let comments = self.comments.iter().cloned();
        let commands = self.commands.iter().map(|(_, command)| format!("> {command}"));
        let mut text = String::new();
        for line in comments.chain(commands).chain(self.output.iter().cloned()) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// What is missing (`-`) and what is there instead (`+`), with the lines around it.
pub(crate) fn difference(expected: &[String], real: &[String]) -> String {
    // common[e][r]: the longest common subsequence of expected[e..] and real[r..].
    let mut common = vec![vec![0_usize; real.len() + 1]; expected.len() + 1];
    for e in (0..expected.len()).rev() {
        for r in (0..real.len()).rev() {
            common[e][r] =
                if expected[e] == real[r] { common[e + 1][r + 1] + 1 } else { common[e + 1][r].max(common[e][r + 1]) };
        }
    }
    let (mut e, mut r, mut text) = (0, 0, String::new());
    let mut put = |mark: char, line: &str| text.push_str(&format!("  {mark} {line}\n"));
    while e < expected.len() || r < real.len() {
        if e < expected.len() && r < real.len() && expected[e] == real[r] {
            put(' ', &expected[e]);
            (e, r) = (e + 1, r + 1);
        } else if r == real.len() || (e < expected.len() && common[e + 1][r] >= common[e][r + 1]) {
            put('-', &expected[e]);
            e += 1;
        } else {
            put('+', &real[r]);
            r += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_after_reading_and_writing() {
        let text = "# A story.\n\n# First.\n> one\n> two\nout\nput\n\n> three\n";
        let transcript = Transcript::parse(text).unwrap();
        assert_eq!(transcript.render(), text);
        assert_eq!((transcript.blocks[1].commands[1].0, transcript.blocks[1].output_line), (5, 6));
    }

    #[test]
    fn a_malformed_file_is_refused_with_its_line() {
        let line = |text: &str| Transcript::parse(text).map(|_| ()).unwrap_err().0;
        assert_eq!(line("> no story\n"), 1);
        assert_eq!(line("# A story.\n\nout\n"), 3);
        assert_eq!(line("# A story.\n> one\nout\n> two\n"), 4);
        assert_eq!(line("# A story.\n> one\n# late\n"), 3);
    }

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_there() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(difference(&lines("a b c"), &lines("a x c")), "    a\n  - b\n  + x\n    c\n");
    }
}
