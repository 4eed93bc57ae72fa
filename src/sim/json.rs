//! Just enough JSON to hand data to a page, inside of a script element of it.

use std::fmt::Write;

/// A text that grows: each call adds a value, and the comma before it if one is due.
#[derive(Default)]
pub(super) struct Json(String);

impl Json {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    pub(super) fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.enclosed('[', ']', items);
    }

    /// Its members are added by [`member`](Self::member).
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.enclosed('{', '}', members);
    }

    pub(super) fn member(&mut self, name: &str, value: impl FnOnce(&mut Self)) {
        self.string(name);
        self.0.push(':');
        value(self);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.comma();
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{number}");
    }

    pub(super) fn numbers(&mut self, numbers: &[u64]) {
        self.array(|json| numbers.iter().for_each(|number| json.number(*number)));
    }

    /// `<` is escaped, too: nothing in a text can end the script element around it, or open a comment in it.
    pub(super) fn string(&mut self, text: &str) {
        self.comma();
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                '<' | '\u{0}'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn enclosed(&mut self, open: char, close: char, inside: impl FnOnce(&mut Self)) {
        self.comma();
        self.0.push(open);
        inside(self);
        self.0.push(close);
    }

    fn comma(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with(['[', '{', ':']) {
            self.0.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_separated_and_enclosed() {
        let mut json = Json::default();
        json.object(|json| {
            json.member("a:", |json| json.numbers(&[1, 2]));
            json.member("b[", |json| json.array(|json| json.array(|_| {})));
            json.member("c", |json| json.string("{"));
        });
        assert_eq!(json.into_text(), r#"{"a:":[1,2],"b[":[[]],"c":"{"}"#);
    }

    #[test]
    fn no_text_can_leave_its_quotes_or_the_script_element() {
        let mut json = Json::default();
        json.string("</script><!-- \"q\" \\ \n\u{2028} ü");
        assert_eq!(json.into_text(), r#""\u003c/script>\u003c!-- \"q\" \\ \u000a\u2028 ü""#);
    }
}
