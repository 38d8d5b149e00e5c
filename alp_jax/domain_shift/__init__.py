"""Measures which patches of label maps reveal their domain: Figure 1 of Cicek et al., ACCV 2020."""
