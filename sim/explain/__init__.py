"""From recorded facts to an answer: reasons, diagnosis, what-if, fixes."""
