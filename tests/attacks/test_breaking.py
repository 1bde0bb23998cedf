from attacks.cases.breaking import ATTACKS
from attacks.oracles import TestEveryAttack, TestTheClass

__all__ = ["ATTACKS", "TestEveryAttack", "TestTheClass"]
