from attacks.cases.wire import ATTACKS
from attacks.oracles import TestEveryAttack, TestTheClass

__all__ = ["ATTACKS", "TestEveryAttack", "TestTheClass"]
