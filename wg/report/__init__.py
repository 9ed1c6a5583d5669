"""From records to a page: which recipe reached the target soonest, by how much, how surely."""
