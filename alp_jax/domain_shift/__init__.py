"""Which patches of label maps give their domain away: Figure 1 of Cicek et al., ACCV 2020."""
