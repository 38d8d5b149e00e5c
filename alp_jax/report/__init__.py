"""Writes pictures and an HTML page of finished runs: Figures 4 to 7 of Cicek et al., ACCV 2020."""
