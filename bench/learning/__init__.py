"""What each method and tuning teaches: a held-out number before and after, measured by code that is not ours."""
