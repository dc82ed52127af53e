//! Splits Rust source into words and signs, without comments and texts, and without `#[cfg(test)]` modules.
//!
//! Just enough for a search by name. It knows no grammar: `::` comes out as one sign, every other sign alone.

/// A word or sign and the line that it stands on, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// The tokens of a file, those of its test modules left out.
pub(crate) fn without_tests(source: &str) -> Vec<Token<'_>> {
    const TEST_MODULE: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let all = tokens(source);
    let mut kept = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let is_test = all[at..].iter().map(|token| token.text).take(TEST_MODULE.len()).eq(TEST_MODULE);
        // Only a module with a body here; one in another file is looked at like any file.
        if is_test && all.get(at + TEST_MODULE.len() + 1).is_some_and(|token| token.text == "{") {
            at = after_block(&all, at + TEST_MODULE.len() + 1);
        } else {
            kept.push(all[at]);
            at += 1;
        }
    }
    kept
}

/// The place after the `}` that closes the `{` at `open`.
fn after_block(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, kept) = next(rest, first);
        let (text, after) = rest.split_at(length);
        if kept {
            found.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// The length in bytes of what stands first, and whether it is a token.
fn next(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (comment(rest), false);
    }
    if let Some(length) = raw_text(rest) {
        return (length, false);
    }
    match first {
        '"' => (quoted(rest, '"'), false),
        'b' | 'c' if rest[1..].starts_with('"') => (1 + quoted(&rest[1..], '"'), false),
        '\'' => quote(rest),
        _ if first.is_whitespace() => (first.len_utf8(), false),
        _ if is_word(first) => (rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()), true),
        _ if rest.starts_with("::") => (2, true),
        _ => (first.len_utf8(), true),
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Block comments nest.
fn comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br#"…"#` and their like; `r#name` is a word.
fn raw_text(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.strip_prefix(prefix).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
    let after = &rest[prefix.len()..];
    let signs = after.len() - after.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(signs));
    let begin = prefix.len() + signs + 1;
    Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// A text in quotes with escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character is a text; a lifetime is a token.
fn quote(rest: &str) -> (usize, bool) {
    let mut letters = rest.chars().skip(1);
    let (one, two) = (letters.next(), letters.next());
    if one == Some('\\') || two == Some('\'') {
        return (quoted(rest, '\''), false);
    }
    let name = rest[1..].find(|letter| !is_word(letter)).unwrap_or(rest.len() - 1);
    (1 + name, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        without_tests(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_texts_are_left_out() {
        assert_eq!(words("a // tokio\nb /* c /* d */ e */ f"), ["a", "b", "f"]);
        assert_eq!(words(r##"a "x\"tokio" b r#"q"tokio"# c b"t" d 'x' e '\'' f"##), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn lifetimes_and_raw_names_do_not_swallow_what_follows() {
        assert_eq!(words("&'a str, 'b: x"), ["&", "'a", "str", ",", "'b", ":", "x"]);
        assert_eq!(words("r#type + rest"), ["r", "#", "type", "+", "rest"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_texts() {
        let tokens = without_tests("/* 1\n2 */ \"\n\" a\nb");
        assert_eq!(tokens, [Token { text: "a", line: 3 }, Token { text: "b", line: 4 }]);
    }

    #[test]
    fn only_the_test_module_is_left_out() {
        let source = "a #[cfg(test)] mod tests { x { y } z \"}\" } b #[cfg(test)] fn c() {} #[cfg(test)] mod d; e";
        let words = words(source);
        assert!(["a", "b", "c", "d", "e"].iter().all(|word| words.contains(word)), "{words:?}");
        assert!(!["x", "y", "z"].iter().any(|word| words.contains(word)), "{words:?}");
    }
}
