"""What was known for any spine: the evaluator of feature sets on sorted integer axes. Reads frames, writes nothing."""
