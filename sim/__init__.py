"""The offline half: model, snapshot readers, engine, explanations. Imports nothing of the live half."""
