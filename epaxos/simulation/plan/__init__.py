"""What a seed decides before the first event, so that a run can be repeated, and repeated with less of it."""
