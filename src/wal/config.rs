//! Knobs of the log.

use crate::config::ConfigError;
use crate::wal::segment;

/// Sizes of the log's files and batches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalConfig {
    /// Length of a new segment in bytes, a multiple of 4096, 16 KiB to 1 GiB. Default 64 MiB. It bounds the largest
    /// single write. Segments of another length, made before the knob was turned, stay readable.
    pub segment_bytes: u64,
    /// How many spare segments a background thread keeps ready, zero-filled or given back by the log, at most 16.
    /// Default 2; 0 means no thread, the append that needs a segment makes it.
    pub spare_segments: usize,
    /// How long all segments together may be before the remainders of slow groups in the oldest one are copied forward,
    /// so that it can be given back. At least twice `segment_bytes`. Default 1 GiB. A log that must hold more holds more.
    pub soft_bytes: u64,
    /// How many bytes of several writes go into one batch, at most `segment_bytes`. Default 4 MiB. One write is never
    /// split, however large.
    pub batch_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, spare_segments: 2, soft_bytes: 1 << 30, batch_bytes: 4 << 20 }
    }
}

impl WalConfig {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`ConfigError`] names the first knob that is out of bounds and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let require = |holds: bool, knob: &'static str, rule: &'static str| {
            if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
        };
        let segment = self.segment_bytes;
        let in_bounds = (segment::MIN_BYTES..=segment::MAX_BYTES).contains(&segment);
        require(in_bounds, "segment_bytes", "must be 16 KiB to 1 GiB")?;
        require(segment.is_multiple_of(segment::BLOCK), "segment_bytes", "must be a multiple of 4096")?;
        require(self.spare_segments <= 16, "spare_segments", "must be at most 16")?;
        require(self.soft_bytes >= 2 * segment, "soft_bytes", "must be at least twice segment_bytes")?;
        require(self.batch_bytes > 0, "batch_bytes", "must not be 0")?;
        require(self.batch_bytes as u64 <= segment, "batch_bytes", "must be at most segment_bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounds_are_named() {
        assert_eq!(WalConfig::default().validate(), Ok(()));
        let knob = |change: fn(&mut WalConfig)| {
            let mut config = WalConfig::default();
            change(&mut config);
            config.validate().unwrap_err().knob
        };
        assert_eq!(knob(|c| c.segment_bytes = 8192), "segment_bytes");
        assert_eq!(knob(|c| c.segment_bytes = 2 << 30), "segment_bytes");
        assert_eq!(knob(|c| c.segment_bytes += 512), "segment_bytes");
        assert_eq!(knob(|c| c.spare_segments = 17), "spare_segments");
        assert_eq!(knob(|c| c.soft_bytes = (128 << 20) - 1), "soft_bytes");
        assert_eq!(knob(|c| c.batch_bytes = 0), "batch_bytes");
        assert_eq!(knob(|c| c.batch_bytes = 65 << 20), "batch_bytes");
    }
}
