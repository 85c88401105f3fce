"""Load and accidents: scenarios played on the demo's clusterset, judged by what callers saw."""
