"""What a feature means: the declarative vocabulary, its strict reader, ids, registry, recorded versions and catalogue. Computes nothing."""
