//! Whether so many connections have closed that the memory they took should go back to the system. It counts, and does nothing itself.

/// So few connections that their memory is not worth the time it takes to give it back.
const FEW: usize = 256;

/// The most connections that were open at once since memory was last given back.
#[derive(Debug, Default)]
pub struct Crowd {
    most: usize,
}

impl Crowd {
    /// A connection was opened; `open` are open now.
    pub fn grew(&mut self, open: usize) {
        self.most = self.most.max(open);
    }

    /// Whether most of them are gone: three quarters, and not a few. Says so once for each crowd; `open` are open now.
    pub fn is_gone(&mut self, open: usize) -> bool {
        let gone = open <= self.most / 4 && self.most.saturating_sub(open) >= FEW;
        if gone {
            self.most = open;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(open: usize) -> Crowd {
        let mut crowd = Crowd::default();
        crowd.grew(open);
        crowd
    }

    #[test]
    fn a_crowd_is_gone_once_when_three_quarters_have_left() {
        let mut crowd = of(8000);
        assert!(!crowd.is_gone(8000) && !crowd.is_gone(2001));
        assert!(crowd.is_gone(2000));
        assert!(!crowd.is_gone(2000) && !crowd.is_gone(501));
        assert!(crowd.is_gone(500));
        assert!(crowd.is_gone(0));
        crowd.grew(7);
        assert!(!crowd.is_gone(0), "that was no crowd");
    }

    #[test]
    fn a_few_are_no_crowd() {
        assert!(!of(FEW - 1).is_gone(0));
        assert!(of(FEW).is_gone(0));
        let mut crowd = of(1000);
        crowd.grew(900);
        assert!(crowd.is_gone(0), "the most counts, not the last");
    }
}
