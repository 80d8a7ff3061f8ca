//! Whether so many connections have closed that the memory they took should go back to the system. It counts, and does nothing itself.

/// So few connections that their memory is not worth the time it takes to give it back.
const FEW: usize = 256;

/// The most connections that were open at once since memory was last given back.
#[derive(Debug, Default)]
pub struct Crowd {
    most: usize,
    /// At the last look; none since there were never so many.
    last: Option<usize>,
}

impl Crowd {
    /// A connection was opened; `open` are open now.
    pub fn grew(&mut self, open: usize) {
        if open > self.most {
            *self = Self {
                most: open,
                last: None,
            };
        }
    }

    /// Whether most of them are gone: three quarters, and not a few, and no fewer than at the last look, since those who are still leaving take
    /// memory too. Says so once for each crowd; `open` are open now.
    pub fn is_gone(&mut self, open: usize) -> bool {
        let leaving = self.last.is_none_or(|last| open < last);
        self.last = Some(open);
        let gone = !leaving && open <= self.most / 4 && self.most.saturating_sub(open) >= FEW;
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

    /// Two looks find as many.
    fn settled(crowd: &mut Crowd, open: usize) -> bool {
        assert!(!crowd.is_gone(open), "they may be leaving still");
        crowd.is_gone(open)
    }

    #[test]
    fn a_crowd_is_gone_once_when_three_quarters_have_left() {
        let mut crowd = of(8000);
        assert!(!settled(&mut crowd, 8000) && !settled(&mut crowd, 2001));
        assert!(settled(&mut crowd, 2000));
        assert!(!settled(&mut crowd, 2000) && !settled(&mut crowd, 501));
        assert!(settled(&mut crowd, 500));
        assert!(settled(&mut crowd, 0));
        crowd.grew(7);
        assert!(!settled(&mut crowd, 0), "that was no crowd");
    }

    /// A look in the middle of the leaving must not be the last one: what then still was open would be a few, and its memory kept for ever.
    #[test]
    fn a_crowd_is_not_gone_while_it_is_leaving() {
        let mut crowd = of(1000);
        let looks = [250, 100, 0, 0, 0].map(|open| crowd.is_gone(open));
        assert_eq!(looks, [false, false, false, true, false]);
        let mut crowd = of(1000);
        let looks = [240, 241, 0, 0].map(|open| crowd.is_gone(open));
        assert_eq!(looks, [false, true, false, false], "others come and go");
    }

    #[test]
    fn a_few_are_no_crowd() {
        assert!(!settled(&mut of(FEW - 1), 0));
        assert!(settled(&mut of(FEW), 0));
        let mut crowd = of(1000);
        crowd.grew(900);
        assert!(settled(&mut crowd, 0), "the most counts, not the last");
    }
}
