"""Clocks, records, quality, targets, statistics: what makes a comparison worth reading."""
