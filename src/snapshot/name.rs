//! Names of files inside a snapshot. They come from other nodes and end up as paths in somebody's directory.

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether `name` stays inside of the directory it is put in, wherever that is: parts separated by `/`, none of them
/// empty, `.` or `..`, and nothing that one system or another treats in its own way.
#[must_use]
pub fn is_safe(name: &str) -> bool {
    let part_is_safe = |part: &str| !matches!(part, "" | "." | "..");
    let character_is_safe = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    name.len() <= NAME_BYTES_MAX && name.chars().all(character_is_safe) && name.split('/').all(part_is_safe)
}

/// Whether one of `names`, which are in order, is also a directory of another: such files cannot lie beside each other.
pub(super) fn one_is_a_directory_of_another(names: &[&str]) -> bool {
    let ancestors = |name: &&str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    names.iter().any(|name| ancestors(name).into_iter().any(|at| names.binary_search(&&name[..at]).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_directory_are_not_safe() {
        for safe in ["a", "000001.sst", "tables/7/a.sst", "...", "ä b"] {
            assert!(is_safe(safe), "{safe}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "c:a", "a\0", "a\nb"] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(is_safe(&"x".repeat(NAME_BYTES_MAX)) && !is_safe(&"x".repeat(NAME_BYTES_MAX + 1)));
    }

    #[test]
    fn a_file_is_no_directory() {
        assert!(one_is_a_directory_of_another(&["a", "a-b", "a/b"]));
        assert!(!one_is_a_directory_of_another(&["a", "a-b", "b/a"]));
    }
}
