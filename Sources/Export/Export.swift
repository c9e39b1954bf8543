import FineTuning
