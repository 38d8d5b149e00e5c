def compare_runs(*a, **k):
    return []
